import type { Context } from "hono";
import { HTTPException } from "hono/http-exception";
import { streamSSE } from "hono/streaming";
import type { LiveView } from "./live_view.js";

/** So many may watch at once. */
const MAX_WATCHERS = 32;

/**
 * Server-sent events for as long as the client is there. One that takes nothing holds no more than what it is to take next,
 * and is disconnected as an idle connection.
 */
export function eventStream(context: Context, live: LiveView): Response {
  if (live.watchers >= MAX_WATCHERS) throw new HTTPException(503, { message: `${MAX_WATCHERS} watch already` });
  // Nobody would ever read it.
  if (context.req.method === "HEAD") return context.body(null, 200, { "content-type": "text/event-stream" });
  const response = streamSSE(context, async (stream) => {
    const gone = new AbortController();
    stream.onAbort(() => gone.abort());
    for await (const message of live.watch(gone.signal)) await stream.writeSSE(message);
  });
  response.headers.set("cache-control", "no-store");
  return response;
}
