import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { builtinMachine } from "../../machine/builtin.js";
import type { Reporter } from "./reporter.js";
import { serveUntilSignal } from "./serve_until_signal.js";

const NOBODY: Reporter = { onBegin() {}, onEvent() {}, onReady() {}, onChange() {}, onStopped() {} };

test("when the worker cannot serve, its error comes, and neither a socket nor a listener is left", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "linkfence-serve-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const taken = createServer().listen(0, "127.0.0.1");
  await once(taken, "listening");
  const { port } = taken.address() as { port: number };
  taken.close();
  await once(taken, "close");
  const machine = builtinMachine("redbud");
  const [gpu] = machine.gpus;
  const data = {
    ...{ machine, assignments: [{ name: "vm1", members: [gpu?.address ?? ""] }], includeHost: false },
    ...{ socketDir: join(folder, "run"), pageSize: 4096, ramAsBar: false, resetClearsMemory: false },
    // Of which there is no such thing.
    gpuMemory: -1,
  };
  const where = { stateDir: join(folder, "state"), group: undefined, form: "qemu" } as const;
  const http = { host: "127.0.0.1", port, names: [] };
  await assert.rejects(serveUntilSignal({ data: data as never, ...where, http }, NOBODY));
  await assert.rejects(fetch(`http://127.0.0.1:${port}/`), ({ cause }: Error) => {
    assert.equal((cause as NodeJS.ErrnoException).code, "ECONNREFUSED");
    return true;
  });
  assert.equal(existsSync(join(folder, "run")), false);
});
