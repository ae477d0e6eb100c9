import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { madeUpFunction, madeUpHost } from "../../test/made_up_host.js";
import { HostError } from "./error.js";
import { busResetHits, refuseBusReset, resetMethods, setResetMethods } from "./function_reset.js";

const PORT = "0000:00:01.0";
const GPU = "0000:01:00.0";
const AUDIO = "0000:01:00.1";
const LONE = "0000:00:02.0";
const driver = (name: string) => ({ driver: { link: `../../../../bus/pci/drivers/${name}` } });

/** A GPU with an audio function below a port, and a function that is below none. */
function host(t: TestContext): string {
  return madeUpHost(t, {
    ...madeUpFunction("pci0000:00", PORT, {}),
    ...madeUpFunction(`pci0000:00/${PORT}`, GPU, { reset_method: "pm bus\n" }),
    ...madeUpFunction(`pci0000:00/${PORT}`, AUDIO, driver("snd_hda_intel")),
    ...madeUpFunction("pci0000:00", LONE, {}),
  });
}

function refuses(act: () => void, message: RegExp): void {
  assert.throws(act, (error) => error instanceof HostError && error.code === "ERESET" && message.test(error.message));
}

test("a bus reset hits everything below the port", (t) => {
  const hits = busResetHits(GPU, host(t)).sort((a, b) => a.address.localeCompare(b.address));
  assert.deepEqual(hits, [
    { address: GPU, driver: null },
    { address: AUDIO, driver: "snd_hda_intel" },
  ]);
});

test("a bus is not reset under somebody else's driver, which is named", (t) => {
  refuses(() => refuseBusReset(GPU, new Set(), host(t)), /0000:01:00\.1 \(snd_hda_intel\)/);
});

test("a function of one's own may be hit, and one that nobody drives", (t) => {
  const root = host(t);
  refuseBusReset(GPU, new Set([AUDIO]), root);
  refuseBusReset(AUDIO, new Set(), root);
});

test("a function below no port cannot be reset by one", (t) => {
  refuses(() => refuseBusReset(LONE, new Set(), host(t)), /no port above/);
});

test("reset methods are read and set in their order", (t) => {
  const root = host(t);
  assert.deepEqual(resetMethods(GPU, root), ["pm", "bus"]);
  assert.deepEqual(resetMethods(AUDIO, root), []);
  setResetMethods(GPU, ["bus"], root);
  assert.equal(readFileSync(join(root, "sys/bus/pci/devices", GPU, "reset_method"), "utf8"), "bus\n");
  setResetMethods(GPU, [], root);
  assert.deepEqual(resetMethods(GPU, root), []);
});
