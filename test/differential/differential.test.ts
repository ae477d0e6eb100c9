import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { freshSeed, lookAt } from "./check.js";
import { CHECKS, whyNot } from "./checks.js";

// A short run of each, with other inputs every time. Longer: npm run differential -- --runs N

const RUNS: Readonly<Record<string, number>> = {
  "flattened trees": 12,
  "compiled sources": 40,
  "damaged trees": 60,
  "config spaces": 12,
  "damaged lists": 10,
  "listings of config spaces": 2,
};

/** Ids 0 to 0x16 and 0 to 0x32, and those of them that we decode. */
const ALL_IDS = 23 + 51;
const ALL_KINDS = 13;

const folder = mkdtempSync(join(tmpdir(), "linkfence-lies-"));
after(() => rmSync(folder, { recursive: true }));

const all = Object.entries(CHECKS).flatMap(([word, checks]) => checks.map((each) => ({ word, ...each })));

for (const each of all) {
  test(`others' programs agree about ${each.name}`, { skip: whyNot(each) }, (t) => {
    const { tally, seed, runs, found } = lookAt(each.check, freshSeed(), RUNS[each.name] ?? assert.fail(each.name));
    t.diagnostic(`seed ${seed}: ${tally}`);
    assert.equal(
      found,
      undefined,
      `again: npm run differential -- --seed ${seed} --runs ${runs} ${each.word}\n${found}`,
    );
  });
}

test("generated config spaces have every capability that has a name, and every kind that is decoded", (t) => {
  const each = all.find(({ name }) => name === "config spaces") ?? assert.fail();
  const skip = whyNot(each);
  if (skip !== false) return t.skip(skip);
  const { tally } = lookAt(each.check, 1, 25);
  assert.deepEqual([tally.of("capability ids"), tally.of("kinds of capabilities decoded")], [ALL_IDS, ALL_KINDS]);
});

/** One thing that a program gets wrong, as a script for sed, and the check that has to see it. */
const LIES: readonly (readonly [check: string, program: string, lie: string])[] = [
  ["flattened trees", "dtc", "s/ = <0x0/ = <0x1/"],
  ["flattened trees", "fdtget", "s/^1/2/"],
  ["damaged trees", "fdtget", "s/ 0 / 1 /"],
  ["config spaces", "lspci", "s/SrcValid+/SrcValid-/"],
  ["config spaces", "lspci", "s/(64-bit, prefetchable)/(64-bit, non-prefetchable)/"],
  ["config spaces", "lspci", "s/MalfTLP+/MalfTLP-/"],
  ["damaged lists", "lspci", "s/: \\[\\(..\\)\\] Express/: [\\1] MSI/"],
  ["listings of config spaces", "lspci", "s/FLReset+/FLReset-/"],
];

for (const [name, program, lie] of LIES) {
  const each = all.find((one) => one.name === name) ?? assert.fail(name);
  test(`when ${program} says something else of ${name} it is found: ${lie}`, { skip: whyNot(each) }, () => {
    const before = process.env.PATH;
    process.env.PATH = `${lying(program, lie)}:${before}`;
    try {
      const { found } = lookAt(each.check, 1, 200);
      assert.notEqual(found, undefined);
    } finally {
      process.env.PATH = before;
    }
  });
}

/** A folder with a program of this name that runs the real one and changes what it prints. */
function lying(program: string, lie: string): string {
  const real = spawnSync("sh", ["-c", `command -v ${program}`], { encoding: "utf8" }).stdout.trim();
  const place = mkdtempSync(join(folder, "bin-"));
  writeFileSync(join(place, program), `#!/bin/sh\n'${real}' "$@" | LC_ALL=C sed '${lie}'\n`);
  chmodSync(join(place, program), 0o755);
  return place;
}
