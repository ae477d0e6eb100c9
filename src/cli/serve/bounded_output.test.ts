import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { BoundedOutput } from "./bounded_output.js";

test("what nobody reads is lost beyond 4 MiB, and said when somebody reads again", async () => {
  const stream = new PassThrough();
  const output = new BoundedOutput(stream, (count) => `${count} lost`);
  const line = "x".repeat(1023);
  for (let i = 0; i < 10_000; i++) output.write(line);
  const waiting = stream.readableLength + stream.writableLength;
  assert.ok(waiting > 4 << 20 && waiting < 5 << 20, String(waiting));
  const lines: string[] = [];
  let text = "";
  stream.on("data", (data) => {
    text += data;
  });
  await new Promise((resolve) => setImmediate(resolve));
  output.write("again");
  await new Promise((resolve) => setImmediate(resolve));
  lines.push(...text.trimEnd().split("\n"));
  assert.deepEqual(lines.slice(-2), [`${10_000 - (lines.length - 2)} lost`, "again"]);
});
