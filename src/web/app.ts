import { Hono } from "hono";
import { bearerAuth } from "hono/bearer-auth";
import { bodyLimit } from "hono/body-limit";
import { HTTPException } from "hono/http-exception";
import { secureHeaders } from "hono/secure-headers";
import { streamSSE } from "hono/streaming";
import { failureLine } from "../cli/failure.js";
import { MAX_REQUEST } from "../cli/serve/control_protocol.js";
import { statusJson } from "../cli/serve/serving_json.js";
import { guard } from "./guard.js";
import type { HttpSettings } from "./http_address.js";
import type { LiveView } from "./live_view.js";
import type { PageFile } from "./page_file.js";
import type { Watched } from "./watched.js";

/** So many pages may watch at once. */
const MAX_WATCHERS = 32;
/** A comment as often, in milliseconds, shows either end that the other is still there. */
const HEARTBEAT = 15_000;

/** What answers requests. */
export interface AppParts {
  settings: HttpSettings;
  /** What is listened on. */
  port: number;
  /** What has to come with every change. */
  token: string;
  page: PageFile;
  watched: Watched;
  live: LiveView;
}

/** The page, the API and the metrics. */
export function makeApp({ settings, port, token, page, watched, live }: AppParts): Hono {
  const app = new Hono();
  app.use(guard(settings, port));
  app.use(
    secureHeaders({
      contentSecurityPolicy: {
        defaultSrc: ["'none'"],
        scriptSrc: [page.scriptHash],
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
    }),
  );
  app.onError((error, context) => {
    if (error instanceof HTTPException) return error.getResponse();
    return context.json({ error: failureLine(error) }, 400);
  });
  app.get("/", (context) => {
    const gzip = /\bgzip\b/.test(context.req.header("accept-encoding") ?? "");
    return context.body(gzip ? page.gzip : page.html, 200, {
      "content-type": "text/html; charset=utf-8",
      "cache-control": "no-cache",
      ...(gzip && { "content-encoding": "gzip" }),
    });
  });
  app.get("/api/status", async (context) => context.json(statusJson(await watched.status())));
  app.get("/api/events", (context) => {
    if (live.watchers >= MAX_WATCHERS) return context.json({ error: `${MAX_WATCHERS} watch already` }, 503);
    return streamSSE(context, async (stream) => {
      const gone = new AbortController();
      stream.onAbort(() => gone.abort());
      const heartbeat = setInterval(() => void stream.write(":\n\n"), HEARTBEAT);
      try {
        for await (const { event, data } of live.watch(gone.signal)) {
          await stream.writeSSE({ event, data: JSON.stringify(data) });
        }
      } finally {
        clearInterval(heartbeat);
      }
    });
  });
  const withToken = [bodyLimit({ maxSize: MAX_REQUEST }), bearerAuth({ token })] as const;
  app.post("/api/assignments", ...withToken, async (context) => {
    const { assign } = (await context.req.json()) as { assign: string[] };
    return context.json(await watched.change({ command: "assign", assign }));
  });
  return app;
}
