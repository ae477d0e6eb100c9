import assert from "node:assert/strict";
import { test } from "node:test";
import type { DeviceClient, VfioDevice } from "./device.js";
import { VfioError } from "./error.js";
import { ResetBetweenClients } from "./reset_between_clients.js";
import { runToEnd, type Steps } from "./steps.js";

const CLIENT: DeviceClient = {
  dma: { read: () => assert.fail("no DMA"), write: () => assert.fail("no DMA") },
  trigger: () => false,
  setIntx: () => {},
  start: () => {},
};

/** A device that tells what happens to it, and how it is reset. */
function madeUp(fails = false) {
  const events: string[] = [];
  const note = (event: string) => () => {
    events.push(event);
  };
  function* steps(event: string): Steps {
    yield { deadline: 0 };
    events.push(event);
  }
  const inner: VfioDevice = {
    regions: [{ size: 16, readable: true, writable: true }],
    irqs: [],
    read: note("read"),
    write: note("write"),
    open: note("open"),
    close: note("close"),
    setIrqs: note("setIrqs"),
    afterDmaUnmap: () => steps("settled"),
  };
  const reset = function* (): Steps {
    yield* steps("reset");
    if (fails) throw new VfioError("EIO", "it does not come back");
  };
  return { events, device: new ResetBetweenClients(inner, reset) };
}

test("a device is reset before a client is let in, when it asks, and after it has gone", () => {
  const { events, device } = madeUp();
  runToEnd(device.beforeOpen());
  device.open(CLIENT);
  device.read(0, 0, new Uint8Array(1));
  runToEnd(device.reset());
  device.setIrqs?.({ index: 0, start: 0, count: 0, action: "trigger", data: { kind: "none" } }, []);
  device.close();
  runToEnd(device.afterClose());
  assert.deepEqual(events, ["reset", "open", "read", "reset", "setIrqs", "close", "reset"]);
});

test("a device that cannot be reset lets nobody in", () => {
  const { device } = madeUp(true);
  assert.throws(() => runToEnd(device.beforeOpen()), { code: "EIO" });
});

test("it has the optional methods that its device has, and no others", () => {
  const { device, events } = madeUp();
  assert.equal(device.dmaMapped, undefined);
  assert.equal(device.mmap, undefined);
  runToEnd(device.afterDmaUnmap?.() ?? assert.fail());
  assert.deepEqual(events, ["settled"]);
});
