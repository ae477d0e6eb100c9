import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { captureFileSchema, SCHEMA_FILE } from "./capture-schema.mjs";

test("docs/schema has the schema of capture files that reading a capture goes by", () => {
  assert.deepEqual(
    JSON.parse(readFileSync(SCHEMA_FILE, "utf8")),
    JSON.parse(JSON.stringify(captureFileSchema())),
    "npm run build && node scripts/capture-schema.mjs brings it up to date",
  );
});
