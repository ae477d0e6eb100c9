import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import { readPage } from "../../src/web/page_file.js";
import type { PageEvent, PageState, Snapshot } from "../../src/web/snapshot.js";

/** What a site tells a page, as `live_view.ts` has it. */
type Message =
  | ["snapshot", Snapshot]
  | ["state", PageState]
  | ["events", PageEvent[]]
  | ["blind", { why: string }]
  | ["beat", { time: string }];

/** The page with a server that says what the test wants: any machine, any failure. */
export interface ScriptedSite {
  url: string;
  /** Pages that watch now. */
  watchers: ReadonlySet<unknown>;
  /** To all pages. */
  send(...message: Message): void;
}

/** Serves the page until the test is over; whoever comes gets the snapshot. */
export async function scriptSite(t: TestContext, snapshot: Snapshot): Promise<ScriptedSite> {
  const { html, scriptHash } = readPage();
  const policy = `default-src 'none'; script-src ${scriptHash}; style-src 'unsafe-inline'; img-src data:; connect-src 'self'`;
  const watchers = new Set<ServerResponse>();
  const write = (response: ServerResponse, [event, data]: Message) =>
    response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  const server = createServer((request, response) => {
    if (request.url === "/api/events") {
      response.writeHead(200, { "content-type": "text/event-stream" });
      watchers.add(response);
      response.on("close", () => watchers.delete(response));
      write(response, ["snapshot", snapshot]);
    } else {
      response.writeHead(200, { "content-type": "text/html; charset=utf-8", "content-security-policy": policy });
      response.end(html);
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    watchers,
    send: (...message) => {
      for (const response of watchers) write(response, message);
    },
  };
}
