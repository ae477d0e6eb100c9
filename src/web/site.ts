import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { getRequestListener } from "@hono/node-server";
import { UsageError } from "../cli/failure.js";
import type { ToldEvent } from "../cli/serve/event_limit.js";
import type { Changer, RejectedChange, ServerStatus, WorkerEvent } from "../cli/serve/server_status.js";
import { eventJson } from "../cli/serve/serving_json.js";
import { errnoInWords, errnoOf } from "../host/error.js";
import type { Machine } from "../machine/machine.js";
import { DrawnPicture } from "./answers.js";
import { makeApp } from "./app.js";
import { type HttpSettings, hostInUrl, urlHost } from "./http_address.js";
import { LiveView } from "./live_view.js";
import { Looks } from "./looks.js";
import { Metrics } from "./metrics.js";
import type { OpenSite } from "./open_site.js";
import { openApiText } from "./openapi.js";
import { type PageFile, readPage } from "./page_file.js";
import type { Watched } from "./watched.js";

/** Connections at once: pages that watch, scrapers, and some more. */
const MAX_CONNECTIONS = 128;
/** How often slow clients are looked for, in milliseconds. */
const LOOK_FOR_SLOW = 1000;

/** How long a client may take, in milliseconds. */
export interface Patience {
  /** For all headers. */
  headers: number;
  /** For all of a request. */
  request: number;
  /** To send or take anything at all. */
  idle: number;
}

const PATIENCE: Patience = { headers: 10_000, request: 20_000, idle: 30_000 };

export interface SiteOptions {
  /** Told of each change that was refused. */
  onRejected(change: RejectedChange): void;
  patience?: Patience;
}

/** The page and the API of a serving, over HTTP. It answers 503 until it is opened. */
export class Site {
  /** Where it is, as a URL. */
  readonly url: string;
  /** What has to come with every change. */
  readonly token = randomBytes(24).toString("base64url");
  readonly #server: Server;
  readonly #metrics: Metrics;
  #open: OpenSite | undefined;

  /**
   * @param machine what is to be served
   * @throws UsageError when the address cannot be had
   */
  static async listen(settings: HttpSettings, machine: Machine, options: SiteOptions): Promise<Site> {
    const page = readPage();
    const { headers, request, idle } = options.patience ?? PATIENCE;
    const timeouts = { headersTimeout: headers, requestTimeout: request, connectionsCheckingInterval: LOOK_FOR_SLOW };
    const server = createServer(timeouts);
    server.maxConnections = MAX_CONNECTIONS;
    server.timeout = idle;
    server.listen(settings.port, settings.host);
    try {
      await once(server, "listening");
    } catch (error) {
      const { host, port } = settings;
      throw new UsageError(`--http ${hostInUrl(host)}:${port} cannot be listened on: ${errnoInWords(errnoOf(error))}`);
    }
    // A connection that cannot be accepted, for want of descriptors say, is no end of the others.
    server.on("error", () => {});
    return new Site(settings, server, page, machine, options);
  }

  private constructor(
    settings: HttpSettings,
    server: Server,
    page: PageFile,
    machine: Machine,
    { onRejected }: SiteOptions,
  ) {
    this.#server = server;
    this.#metrics = new Metrics(machine);
    const { address, port } = server.address() as AddressInfo;
    this.url = `http://${urlHost(settings, address)}:${port}/`;
    const { token } = this;
    const app = makeApp({
      ...{ settings, port, token, page, metrics: this.#metrics, description: openApiText() },
      site: () => this.#open,
      onRejected: (change) => {
        this.#metrics.count(change);
        onRejected(change);
      },
    });
    // Who names no host is told so by the guard.
    server.on("request", getRequestListener(app.fetch, { hostname: "none.invalid" }));
  }

  /** Everything is fenced: this is what to show from now on. */
  open(watched: Watched): void {
    const looks = new Looks(watched);
    this.#open = { watched, looks, live: new LiveView(watched, looks), picture: new DrawnPicture() };
  }

  /** Each event, however many there are. */
  count(event: WorkerEvent): void {
    this.#metrics.count(event);
  }

  /** The events that are worth telling. */
  tell(event: ToldEvent): void {
    this.#open?.live.tell({ event: event.kind, ...eventJson(event) });
  }

  /** Other assignments are served now. */
  changed({ ledger }: ServerStatus, by: Changer): void {
    const assignments = ledger.assignments.map(({ name, members }) => ({ name, members }));
    this.#open?.live.tell({ event: "changed", by, assignments });
  }

  /** Ends all conversations. */
  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}
