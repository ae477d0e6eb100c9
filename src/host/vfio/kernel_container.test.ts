import assert from "node:assert/strict";
import { test } from "node:test";
import { createMemfd } from "../../os/index.js";
import { runToEnd, VfioError } from "../../vfio/index.js";
import { HostError } from "../error.js";
import { KernelContainer } from "./kernel_container.js";

const PAGE = 4096;

function throwsCode(code: string, run: () => unknown): void {
  assert.throws(run, (error: unknown) => error instanceof VfioError && error.code === code);
}

test("what VFIO cannot open is refused in one line that says what to do", () => {
  const container = new KernelContainer({ policy: "separate", pageSize: PAGE });
  // No machine has a function there: device 1f of the last bus of the last domain.
  assert.throws(
    () => runToEnd(container.open("ffff:ff:1f.7")),
    (error: unknown) =>
      error instanceof HostError && ["EVFIO", "EGONE"].includes(error.code) && !error.message.includes("\n"),
  );
  container.close();
  container.close();
  throwsCode("ENODEV", () => runToEnd(container.open("ffff:ff:1f.7")));
});

test("without a function there is no address space to map anything in", () => {
  const container = new KernelContainer({ policy: "separate", pageSize: PAGE });
  const fd = createMemfd("client", PAGE);
  const file = { fd: fd.number, offset: 0n, id: "1:2" };
  const range = { address: 0n, size: BigInt(PAGE), file, readable: true, writable: true };
  throwsCode("ENODEV", () => runToEnd(container.map(range)));
  container.unmap(range);
  runToEnd(container.settle());
  assert.deepEqual([container.pinnedBytes, container.devices.size], [0n, 0]);
  fd.close();
  container.close();
});
