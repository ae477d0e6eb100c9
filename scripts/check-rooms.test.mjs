import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { breaches } from "./check-rooms.mjs";

function tree(files) {
  const src = mkdtempSync(join(tmpdir(), "linkfence-rooms-"));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(src, name)), { recursive: true });
    writeFileSync(join(src, name), text);
  }
  return src;
}

test("the import rule holds in this project", () => {
  assert.deepEqual(breaches(join(dirname(dirname(fileURLToPath(import.meta.url))), "src")), []);
});

test("an import against the rule, a room nobody knows, FFI outside os and files in a pure room are found", () => {
  const src = tree({
    "pci/a.ts": 'import { b } from "../machine/b.js";',
    "machine/b.ts": 'import type { A } from "../pci/a.js";\nexport { c } from "./c.js";',
    "fence/c.ts": 'const x = await import("../virtual/d.js");',
    "attic/d.ts": "",
    "virtual/d.ts": 'import koffi from "koffi";',
    "isolation/e.ts": 'import { readFileSync } from "node:fs";',
    "isolation/e.test.ts": 'import { readFileSync } from "node:fs";',
  });
  try {
    assert.deepEqual(breaches(src).sort(), [
      "attic/d.ts: attic is no room of docs/architecture.md",
      "fence/c.ts: fence may not import virtual (../virtual/d.js)",
      "isolation/e.ts: isolation is pure and may not import node:fs",
      "pci/a.ts: pci may not import machine (../machine/b.js)",
      "virtual/d.ts: only src/os may import koffi",
    ]);
  } finally {
    rmSync(src, { recursive: true });
  }
});
