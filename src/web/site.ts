import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { getRequestListener } from "@hono/node-server";
import { UsageError } from "../cli/failure.js";
import type { ToldEvent } from "../cli/serve/event_limit.js";
import type { ServerStatus, WorkerEvent } from "../cli/serve/server_status.js";
import { eventJson } from "../cli/serve/serving_json.js";
import { errnoInWords, errnoOf } from "../host/error.js";
import { makeApp } from "./app.js";
import { type HttpSettings, hostInUrl } from "./http_address.js";
import { LiveView } from "./live_view.js";
import { readPage } from "./page_file.js";
import type { Watched } from "./watched.js";

/** Connections at once: pages that watch, scrapers, and some more. */
const MAX_CONNECTIONS = 128;

/** The page and the API of a serving, over HTTP. It answers 503 until it is opened. */
export class Site {
  /** Where it is, as a URL. */
  readonly url: string;
  /** What has to come with every change. */
  readonly token = randomBytes(24).toString("base64url");
  readonly #server: Server;
  readonly #settings: HttpSettings;
  readonly #port: number;
  #live: LiveView | undefined;
  #answer: ReturnType<typeof getRequestListener> | undefined;

  /** @throws UsageError when the address cannot be had */
  static async listen(settings: HttpSettings): Promise<Site> {
    const server = createServer();
    server.maxConnections = MAX_CONNECTIONS;
    server.listen(settings.port, settings.host);
    try {
      await once(server, "listening");
    } catch (error) {
      const { host, port } = settings;
      throw new UsageError(`--http ${hostInUrl(host)}:${port} cannot be listened on: ${errnoInWords(errnoOf(error))}`);
    }
    return new Site(settings, server);
  }

  private constructor(settings: HttpSettings, server: Server) {
    this.#settings = settings;
    this.#server = server;
    this.#port = (server.address() as AddressInfo).port;
    const name = settings.names[0] ?? hostInUrl(settings.host);
    this.url = `http://${name}:${this.#port}/`;
    server.on("request", (request, response) => {
      if (this.#answer !== undefined) return void this.#answer(request, response);
      response.writeHead(503, { "retry-after": "1", "content-type": "application/json" });
      response.end('{"error":"not everything is fenced yet"}');
    });
  }

  /** Everything is fenced: this is what to show from now on. */
  open(watched: Watched): void {
    const live = new LiveView(watched);
    const { token } = this;
    const app = makeApp({ settings: this.#settings, port: this.#port, token, page: readPage(), watched, live });
    this.#live = live;
    this.#answer = getRequestListener(app.fetch);
  }

  /** Each event, however many there are. */
  count(_event: WorkerEvent): void {}

  /** The events that are worth telling. */
  tell(event: ToldEvent): void {
    this.#live?.tell({ event: event.kind, ...eventJson(event) });
  }

  /** Other assignments are served now. */
  changed({ ledger }: ServerStatus): void {
    const assignments = ledger.assignments.map(({ name, members }) => ({ name, members }));
    this.#live?.tell({ event: "changed", assignments });
  }

  /** Ends all conversations. */
  close(): void {
    this.#live?.close();
    this.#server.close();
    this.#server.closeAllConnections();
  }
}
