import assert from "node:assert/strict";
import { test } from "node:test";
import { requireApt } from "./apt_archive.js";
import { VmUnavailable } from "./vm_unavailable.js";

test("a machine without Debian's tools is told in one line what it lacks", (t) => {
  const { PATH } = process.env;
  t.after(() => {
    process.env.PATH = PATH;
  });
  process.env.PATH = "/nonexistent";
  assert.throws(
    requireApt,
    (error) => error instanceof VmUnavailable && /^virtual machines need .*$/.test(error.message),
  );
});
