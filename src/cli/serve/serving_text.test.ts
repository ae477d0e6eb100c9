import assert from "node:assert/strict";
import { test } from "node:test";
import { stripVTControlCharacters } from "node:util";
import { warningsOf } from "./serving_json.js";
import { eventLine, servedLines } from "./serving_text.js";

test("what functions go without is said when serving begins, with whose it is", () => {
  const warnings = warningsOf([
    { name: "GPU0", address: "0000:1a:00.0", warnings: ["no NVLink2 RAM region"] },
    { name: "0006:00:00.0", address: "0006:00:00.0", warnings: ["no ATSD region", "and another"] },
    { name: "GPU1", address: "0000:1c:00.0", warnings: [] },
  ]);
  const lines = servedLines({ machine: "made up", fenced: true, failures: [], warnings, assignments: [] });
  assert.deepEqual(lines.map(stripVTControlCharacters), [
    "fenced, nothing is assigned",
    "warning: GPU0 0000:1a:00.0: no NVLink2 RAM region",
    "warning: 0006:00:00.0: no ATSD region",
    "warning: 0006:00:00.0: and another",
  ]);
});

test("an access to what is not modelled is a line that says so once", () => {
  const what = "GPU0: read of BAR0 register 0x000004, which is not modelled";
  assert.equal(eventLine({ kind: "unmodelled", what }), what);
});
