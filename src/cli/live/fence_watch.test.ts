import assert from "node:assert/strict";
import { test } from "node:test";
import { FenceWatch } from "./fence_watch.js";
import type { LiveVerdict } from "./live_verdicts.js";

const CLOSED: LiveVerdict = {
  name: "GPU0",
  address: "0000:1a:00.0",
  expected: { disableMask: 0x00030000, cut: [0, 1] },
  actual: { disableMask: 0x00030000, cut: [0, 1], linksUp: null },
  evidence: { registers: [] },
  readable: true,
  open: false,
  access: "resource0",
  renewing: false,
};
const NOTHING = { disableMask: null, cut: null, linksUp: null };
const OPEN: LiveVerdict = {
  ...CLOSED,
  actual: { ...NOTHING, cut: [0] },
  open: true,
  reason: "link 1 is not proven cut",
};
const SILENT: LiveVerdict = {
  ...CLOSED,
  actual: NOTHING,
  readable: false,
  open: true,
  access: null,
  reason: "all ones",
};

test("each GPU is told of at the first look, and then when something changes", () => {
  const watch = new FenceWatch();
  const states = [CLOSED, CLOSED, OPEN, OPEN, SILENT, CLOSED].map((verdict) =>
    watch.take([verdict]).map((event) => event.state),
  );
  assert.deepEqual(states, [["closed"], [], ["open"], [], ["unreadable"], ["closed"]]);
});

test("another link that is open is news", () => {
  const watch = new FenceWatch();
  watch.take([OPEN]);
  const worse = { ...OPEN, actual: { ...NOTHING, cut: [] }, reason: "links 0, 1 are not proven cut" };
  assert.equal(watch.take([worse]).length, 1);
});

test("that a fence was open, or could not be read, is not forgotten", () => {
  for (const verdict of [OPEN, SILENT]) {
    const watch = new FenceWatch();
    watch.take([CLOSED]);
    assert.equal(watch.everOpen, false);
    watch.take([verdict]);
    watch.take([CLOSED]);
    assert.equal(watch.everOpen, true);
  }
});

test("of a GPU that its server is fencing anew nothing is told", () => {
  const watch = new FenceWatch();
  watch.take([CLOSED]);
  assert.deepEqual(watch.take([{ ...SILENT, renewing: true }]), []);
  assert.equal(watch.everOpen, false);
});
