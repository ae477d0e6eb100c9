import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import type { PciFunction } from "../function.js";
import { parseLspci } from "../lspci.js";

const DUMP = fileURLToPath(new URL("../../../test/data/lspci/dump.txt", import.meta.url));
const installed = spawnSync("lspci", ["--version"]).status === 0;
const oracle = { skip: installed ? false : "lspci is not installed" };

function lspci(...options: string[]): PciFunction[] {
  const { stdout } = spawnSync("lspci", ["-F", DUMP, ...options], { encoding: "utf8" });
  const { functions, problems } = parseLspci(stdout);
  assert.deepEqual(problems, [], `lspci ${options.join(" ")}`);
  return functions.map(({ text: _, ...fn }) => fn);
}

/** Compares what both sides have; `options` of lspci that print less leave fields out or lists empty. */
function assertAgrees(fn: PciFunction, whole: PciFunction, options: string): void {
  for (const [key, value] of Object.entries(fn)) {
    if (Array.isArray(value) && value.length === 0) continue;
    assert.deepEqual(value, whole[key as keyof PciFunction], `lspci ${options}: ${key} of ${fn.address}`);
  }
}

test("what lspci prints of a dump is what the dump says", oracle, () => {
  const whole = lspci("-Dnnxxxx");
  assert.equal(whole.length, 8);
  for (const options of ["-vv", "-vvv", "-nnvv", "-nvv", "-Dvvvnnk", "-vvx", "-vvvxxx", "-vvxxxx", "-xxxx"]) {
    const printed = lspci(options);
    assert.equal(printed.length, whole.length);
    for (const [i, fn] of printed.entries()) {
      // A dump has no names, and lspci -n none either.
      const { name: _, multifunction: __, ...rest } = fn;
      assertAgrees(rest, { ...(whole[i] as PciFunction), ...irqOf(rest) }, options);
    }
  }
});

/** Without a host there is only the interrupt line register, which lspci prints even where it means nothing. */
function irqOf({ irq }: PciFunction): Pick<PciFunction, "irq"> {
  return irq === undefined ? {} : { irq };
}

test("the listings with less in them agree with the one that has most", oracle, () => {
  const whole = lspci("-Dnnvvv");
  for (const options of [
    "-v",
    "-nv",
    "-nnv",
    "-n",
    "-nn",
    "-D",
    "-k",
    "-mm",
    "-nmm",
    "-nnmm",
    "-vmm",
    "-nvmm",
    "-nnvmm",
  ]) {
    const printed = lspci(options);
    assert.equal(printed.length, whole.length);
    for (const [i, fn] of printed.entries()) {
      const { classCode, express, ...rest } = fn;
      const full = whole[i] as PciFunction;
      assertAgrees(rest, full, options);
      // The programming interface is only printed with -v, function level reset and slot number only with -vv.
      assert.equal((classCode ?? 0) >>> 8, (full.classCode ?? 0) >>> 8);
      if (express !== undefined) assert.equal(express.type, full.express?.type);
    }
  }
});

test("the bridge path that lspci -PP prints gives each function its parent", oracle, () => {
  assert.deepEqual(
    lspci("-PP").map(({ address, parent }) => [address, parent]),
    [
      ["0000:00:03.0", undefined],
      ["0000:00:1f.2", undefined],
      ["0000:05:04.0", undefined],
      ["0000:3b:00.0", "0000:00:03.0"],
      ["0035:00:00.0", undefined],
      ["0035:01:00.0", "0035:00:00.0"],
      ["0035:02:08.0", "0035:01:00.0"],
      ["0035:03:00.0", "0035:02:08.0"],
    ],
  );
});
