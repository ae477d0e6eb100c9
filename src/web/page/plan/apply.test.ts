import assert from "node:assert/strict";
import { test } from "node:test";
import { type Applied, applyChanges } from "./apply.js";

async function answered(status: number, body: unknown, token = "secret"): Promise<Applied & { asked: RequestInit[] }> {
  const asked: RequestInit[] = [];
  const send = async (_url: unknown, init: RequestInit = {}) => {
    asked.push(init);
    return new Response(typeof body === "string" ? body : JSON.stringify(body), { status });
  };
  return { ...(await applyChanges(token, ["vm1=GPU0"], send as typeof fetch)), asked };
}

test("changes go with the token, and the answer is a line", async () => {
  const body = { fenced: true, failures: [], assignments: [{ name: "vm1", members: ["GPU0"] }] };
  const { ok, line, asked } = await answered(200, body, " secret\n");
  assert.deepEqual([ok, line], [true, "applied: everything is fenced, serving vm1 (GPU0)"]);
  assert.equal(asked[0]?.body, '{"assign":["vm1=GPU0"]}');
  assert.equal(new Headers(asked[0]?.headers).get("authorization"), "Bearer secret");
});

test("a fence that has failed is no success", async () => {
  const { ok, line } = await answered(200, { failures: ["the fence of GPU0 has failed: x"], assignments: [] });
  assert.deepEqual([ok, line], [false, "applied, but the fence of GPU0 has failed: x"]);
});

test("refusals say why, and whether anything was touched", async () => {
  assert.match((await answered(401, "Unauthorized")).line, /does not know this token: nothing was touched/);
  assert.equal((await answered(409, { error: "a client is attached" })).line, "refused: a client is attached");
  assert.equal((await answered(500, "<html>")).line, "refused: the server answered 500");
  for (const token of ["", "a b", "日本", "a\u0000"]) {
    const { ok, line, asked } = await answered(200, {}, token);
    assert.deepEqual([ok, asked.length], [false, 0], line);
  }
  const gone = await applyChanges("secret", [], () => Promise.reject(new TypeError("failed")));
  assert.match(gone.line, /did not answer/);
});
