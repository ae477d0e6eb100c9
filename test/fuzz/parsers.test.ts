import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { PROJECT } from "../project_folder.js";
import { CheckedRun } from "./parsers/checked_run.js";
import { checkGrowth, GrowthFinding, grownPair } from "./parsers/growth.js";
import { corpus } from "./parsers/samples.js";
import { makePlanted } from "./parsers/targets/planted.js";
import { PARSERS } from "./parsers/targets.js";
import { Random } from "./random.js";

const directory = mkdtempSync(join(tmpdir(), "linkfence-fuzz-test-"));
after(() => rmSync(directory, { recursive: true, force: true }));
const note = openSync(join(directory, "note"), "w");

describe("the corpus of the parsers' fuzzer", () => {
  for (const [name, load] of Object.entries(PARSERS)) {
    test(`every input of ${name} is read or refused, and used without a fault`, async () => {
      const { makeTarget } = await load();
      const checked = new CheckedRun(makeTarget(directory), note);
      const inputs = corpus(name);
      for (const input of inputs) await checked.run(input, "parts");
      assert.ok(inputs.length > 0);
      assert.equal(checked.count, inputs.length);
    });
  }

  test("the command line knows every target", async () => {
    const { output } = await fuzzParsers("--target", "pdf");
    assert.match(output, new RegExp(`there are ${Object.keys(PARSERS).join(", ")}$`, "m"));
  });
});

/** Runs the fuzzer as it is called. */
function fuzzParsers(...args: string[]): Promise<{ status: number | null; output: string }> {
  const script = join(PROJECT, "scripts/fuzz-parsers.mjs");
  const child = spawn(process.execPath, [script, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
  }
  return new Promise((resolve) => child.on("close", (status) => resolve({ status, output })));
}

describe("planted faults", () => {
  test("a crash behind four bytes is found from what ran, made short, and shown again by the command printed", async () => {
    const found = await fuzzParsers("--target", "planted-crash", "--seed", "1", "--runs", "100000");
    assert.equal(found.status, 1, found.output);
    assert.match(found.output, /^seed 1$/m);
    assert.match(found.output, /SyntaxError: Unexpected end of JSON input/);
    const [, file = ""] =
      /^again: npm run fuzz:parsers -- --target planted-crash --input (.+)$/m.exec(found.output) ?? [];
    assert.match(readFileSync(file, "latin1"), /^deep.$/s);
    const again = await fuzzParsers("--target", "planted-crash", "--input", file);
    rmSync(file);
    assert.equal(again.status, 1, again.output);
    assert.match(again.output, /SyntaxError: Unexpected end of JSON input/);
  });

  test("time that grows with the square of the input is found", async () => {
    const checked = new CheckedRun(makePlanted("quadratic"), note);
    await assert.rejects(checkGrowth(checked, grownPair(checked, new Random(1), undefined)), (error: Error) => {
      return error instanceof GrowthFinding || /bytes take \d+ ms/.test(error.message);
    });
  });

  test("memory out of proportion is found", async () => {
    const checked = new CheckedRun(makePlanted("memory"), note);
    await assert.rejects(checked.run(Buffer.from("deep!"), "parts"), /5 bytes take \d+ MiB of memory/);
  });
});

describe("bad arguments of fuzz:parsers", () => {
  const cases: [string[], RegExp][] = [
    [["--target", "pdf"], /^fuzz:parsers: no target pdf; there are device-tree, lspci, /],
    [["--seed", "-1"], /^fuzz:parsers: .*--seed/],
    [["--runs", "many"], /^fuzz:parsers: --runs many: no number up to/],
    [["--input", join(directory, "absent")], /^fuzz:parsers: --input needs the one --target it is of/],
    [
      ["--target", "lspci", "--input", join(directory, "absent")],
      /^fuzz:parsers: --input \S+absent: there is no such file/,
    ],
    [["--surprise"], /^fuzz:parsers: .*--surprise/],
  ];
  for (const [args, line] of cases) {
    test(args.join(" ").replace(`${directory}/`, ""), async () => {
      const { status, output } = await fuzzParsers(...args);
      assert.equal(status, 2, output);
      assert.match(output, line);
      assert.equal(output.trim().split("\n").length, 1, output);
    });
  }
});
