import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { OsError } from "../../src/os/index.js";
import { VfioError } from "../../src/vfio/index.js";
import {
  type ClientOptions,
  type RunningServer,
  type ServerEvent,
  startServer,
  VfioUserClient,
} from "../../src/vfio-user/index.js";
import { openFiles } from "./open_files.js";
import { RawClient } from "./raw_client.js";
import type { TestCommand } from "./test_device.js";

const module = new URL("./test_device.js", import.meta.url);

/** Serves a test device to the tests of a file, and looks after each whether it has leaked anything. */
export class TestServer {
  readonly events: ServerEvent[] = [];
  readonly #directory = mkdtempSync(join(tmpdir(), "linkfence-server-"));
  readonly #path = join(this.#directory, "device.sock");
  /** Closed after each test, whatever became of it. */
  readonly #clients: { close(): void }[] = [];
  #server: RunningServer | undefined;
  #idle: ReturnType<typeof openFiles> | undefined;

  constructor() {
    before(() => this.#start());
    after(() => this.#stop());
    beforeEach(async () => {
      await this.drive({ do: "log" });
      this.events.length = 0;
    });
    afterEach(async () => {
      for (const client of this.#clients.splice(0)) client.close();
      await this.quiet();
      assert.deepEqual(openFiles(), this.#idle, "descriptors or mappings were leaked");
    });
  }

  /** Has the device do something. */
  async drive(command: TestCommand): Promise<unknown> {
    return this.#server?.call([0, command]);
  }

  connect(options: ClientOptions = {}): VfioUserClient {
    const client = new VfioUserClient(this.#path, options);
    this.#clients.push(client);
    return client;
  }

  connectRaw(negotiate = true): RawClient {
    const client = new RawClient(this.#path, negotiate);
    this.#clients.push(client);
    return client;
  }

  /** Until the server has noticed that the last client is gone. */
  async quiet(): Promise<void> {
    for (let attempt = 0; attempt < 100; attempt++) {
      try {
        new VfioUserClient(this.#path).close();
        await sleep(5);
        await this.drive({ do: "result" });
        return;
      } catch {
        await sleep(5);
      }
    }
  }

  async #start(): Promise<void> {
    this.#server = await startServer({
      module,
      data: [this.#path],
      onEvent: (event) => this.events.push(event),
    });
    new VfioUserClient(this.#path).close();
    await this.quiet();
    this.#idle = openFiles();
  }

  async #stop(): Promise<void> {
    await this.#server?.stop();
    assert.equal(existsSync(this.#path), false, "the socket file is gone");
    rmSync(this.#directory, { recursive: true });
  }
}

/** The client's call fails with a code. */
export function refuses(code: string, run: () => unknown): void {
  assert.throws(
    run,
    (error: unknown) => (error instanceof OsError || error instanceof VfioError) && error.code === code,
  );
}
