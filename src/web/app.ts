import { Hono, type MiddlewareHandler } from "hono";
import { HTTPException } from "hono/http-exception";
import { methodNotAllowed } from "hono/method-not-allowed";
import { secureHeaders } from "hono/secure-headers";
import { failureLine } from "../cli/failure.js";
import type { RejectedChange } from "../cli/serve/server_status.js";
import { type AppEnvironment, addApi, addressOf } from "./api.js";
import { guard } from "./guard.js";
import type { HttpSettings } from "./http_address.js";
import type { Metrics } from "./metrics.js";
import type { OpenSite } from "./open_site.js";
import type { PageFile } from "./page_file.js";

/** What answers requests. */
export interface AppParts {
  settings: HttpSettings;
  /** What is listened on. */
  port: number;
  /** What has to come with every change. */
  token: string;
  page: PageFile;
  metrics: Metrics;
  /** The OpenAPI description, as JSON. */
  description: string;
  /** Nothing until everything is fenced. */
  site(): OpenSite | undefined;
  onRejected(change: RejectedChange): void;
}

const READS: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);

/** The page, the API and the metrics. */
export function makeApp(parts: AppParts): Hono<AppEnvironment> {
  const { settings, port, token, page, metrics, description, site, onRejected } = parts;
  const app = new Hono<AppEnvironment>();
  app.use(headers(page), tellRejected(onRejected), guard(settings, port));
  app.use(
    methodNotAllowed({
      app: app as unknown as Hono,
      onMethodNotAllowed: (context, methods) =>
        context.json({ error: `this can be asked with ${methods.join(", ")}` }, 405, { allow: methods.join(", ") }),
    }),
  );
  app.use(async (context, next) => {
    const open = site();
    if (open === undefined) {
      return context.json({ error: "not everything is fenced yet" }, 503, { "retry-after": "1" });
    }
    context.set("site", open);
    await next();
    return undefined;
  });
  app.onError((error, context) => {
    if (error instanceof HTTPException) return error.res ?? context.json({ error: error.message }, error.status);
    return context.json({ error: failureLine(error) }, statusOf(error));
  });
  app.notFound((context) => context.json({ error: "there is nothing here; GET /api says what there is" }, 404));
  app.get("/", (context) => {
    const gzip = /\bgzip\b/.test(context.req.header("accept-encoding") ?? "");
    return context.body(gzip ? page.gzip : page.html, 200, {
      "content-type": "text/html; charset=utf-8",
      vary: "accept-encoding",
      ...(gzip && { "content-encoding": "gzip" }),
    });
  });
  app.get("/metrics", async (context) => {
    const { looks, live } = context.var.site;
    const text = await metrics.text(await looks.next(), live.watchers);
    return context.body(text, 200, { "content-type": metrics.contentType });
  });
  addApi(app, token, description);
  return app;
}

/** Nothing is kept, framed, guessed at, or loaded from elsewhere. */
function headers({ scriptHash }: PageFile): MiddlewareHandler {
  const secure = secureHeaders({
    contentSecurityPolicy: {
      defaultSrc: ["'none'"],
      scriptSrc: [scriptHash],
      styleSrc: ["'unsafe-inline'"],
      imgSrc: ["data:"],
      connectSrc: ["'self'"],
      baseUri: ["'none'"],
      formAction: ["'none'"],
      frameAncestors: ["'none'"],
    },
    referrerPolicy: "no-referrer",
    // Plain HTTP: where it is reached by another way, that decides.
    strictTransportSecurity: false,
  });
  return async (context, next) => {
    await secure(context, next);
    context.res.headers.set("cache-control", "no-store");
  };
}

/** Every change that was refused, whyever. */
function tellRejected(tell: (change: RejectedChange) => void): MiddlewareHandler<AppEnvironment> {
  return async (context, next) => {
    await next();
    const { method } = context.req;
    const { status } = context.res;
    if (READS.has(method) || status < 400) return;
    const { error: message } = (await context.res.clone().json()) as { error: string };
    tell({ kind: "rejected", of: addressOf(context), method, status, message });
  };
}

/** Errors of linkfence have a code; what has none is a defect. */
function statusOf(error: Error): 400 | 500 | 503 {
  if (!("code" in error)) return 500;
  return error.code === "EBLIND" ? 503 : 400;
}
