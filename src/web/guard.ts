import type { MiddlewareHandler } from "hono";
import { HTTPException } from "hono/http-exception";
import { type HttpSettings, hostInUrl, isLoopback } from "./http_address.js";

/**
 * Lets nobody ask who calls this host by another name, or comes from another site: a page elsewhere may have its own name
 * lead to this host (DNS rebinding), or send requests from the browser of whoever may reach it.
 * @param port what is listened on
 */
export function guard(settings: HttpSettings, port: number): MiddlewareHandler {
  const hosts = allowedHosts(settings, port);
  const origins = new Set([...hosts].map((host) => `http://${host}`));
  return async ({ req }, next) => {
    // A request may name the host twice: as `Host`, and where it says what it wants.
    const named = [req.header("host")?.toLowerCase() ?? "", new URL(req.url).host];
    if (named.some((host) => !hosts.has(host))) {
      const message = "this host is not called so; start with --http-name NAME for another name";
      throw new HTTPException(421, { message });
    }
    const origin = req.header("origin");
    const site = req.header("sec-fetch-site");
    const foreign = origin === undefined ? site === "cross-site" || site === "same-site" : !origins.has(origin);
    // A link on another page may lead here, but nothing there may read or send anything.
    const visit = req.method === "GET" && req.header("sec-fetch-mode") === "navigate" && origin === undefined;
    if (foreign && !visit) throw new HTTPException(403, { message: "requests from other sites are not answered" });
    await next();
  };
}

/** What may stand in `Host`. */
function allowedHosts({ host, names }: HttpSettings, port: number): Set<string> {
  const loopback = isLoopback(host) ? ["localhost", "127.0.0.1", "[::1]"] : [];
  const all = [...loopback, ...(host === "0.0.0.0" || host === "::" ? [] : [hostInUrl(host)]), ...names];
  return new Set(all.flatMap((name) => (port === 80 ? [name, `${name}:80`] : [`${name}:${port}`])));
}
