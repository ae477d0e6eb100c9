import assert from "node:assert/strict";
import { test } from "node:test";
import { isolateNvlink, kernelParameters, kstrtobool } from "./kernel_parameters.js";

test("a command line is split as the kernel splits it", () => {
  assert.deepEqual(kernelParameters('ro root="a b" pci=x=y,z dyndbg="file a.c +p" quiet  -- init=1'), [
    { name: "ro", value: undefined },
    { name: "root", value: "a b" },
    { name: "pci", value: "x=y,z" },
    { name: "dyndbg", value: "file a.c +p" },
    { name: "quiet", value: undefined },
  ]);
});

test("an unterminated quote ends with the line", () => {
  assert.deepEqual(kernelParameters('a="b c'), [{ name: "a", value: "b c" }]);
});

test("kstrtobool takes the first letter, and for o the second", () => {
  for (const text of ["1", "y", "Y", "yes", "t", "T", "true", "on", "ON", "one"])
    assert.equal(kstrtobool(text), true, text);
  for (const text of ["0", "n", "N", "f", "F", "of", "off", "Off", "0x1"]) assert.equal(kstrtobool(text), false, text);
  for (const text of ["", "o", "ox", "2", "-1", " 1", "enable"]) assert.equal(kstrtobool(text), undefined, text);
});

test("isolate_nvlink is off by default and on without a value", () => {
  assert.equal(isolateNvlink("ro quiet").on, false);
  assert.equal(isolateNvlink("ro isolate_nvlink quiet").on, true);
  assert.equal(isolateNvlink("isolate-nvlink=on").on, true);
  assert.equal(isolateNvlink("isolate_nvlink=of").on, false);
});

test("a refused value of isolate_nvlink leaves what was in force", () => {
  assert.deepEqual(isolateNvlink("isolate_nvlink=maybe"), { on: false, refused: ["maybe"] });
  assert.deepEqual(isolateNvlink("isolate_nvlink=1 isolate_nvlink="), { on: true, refused: [""] });
  assert.deepEqual(isolateNvlink("isolate_nvlink=1 isolate_nvlink=0"), { on: false, refused: [] });
  assert.equal(isolateNvlink("-- isolate_nvlink").on, false);
});
