import assert from "node:assert/strict";
import { duplexPair } from "node:stream";
import { test } from "node:test";
import { onLines } from "./lines.js";
import { Qmp } from "./qmp.js";

/** A QEMU that answers `replies` in turn, after its greeting and the handshake. */
function fakeQemu(replies: object[]) {
  const [here, there] = duplexPair();
  const commands: string[] = [];
  const answers = [{ return: {} }, ...replies];
  onLines(there, (line) => {
    commands.push(JSON.parse(line).execute);
    const answer = answers.shift();
    if (answer !== undefined) there.write(`${JSON.stringify(answer)}\r\n`);
  });
  there.write('{"QMP": {"version": {}}}\r\n{"event": "RESUME"}\r\n');
  return { qmp: new Qmp(here), commands, close: () => here.destroy() };
}

test("answers go to the commands in their order, events to none, and errors are thrown", async () => {
  const { qmp, commands } = fakeQemu([
    { return: { status: "running" } },
    { error: { class: "X", desc: "no such command" } },
  ]);
  const [status, failure] = await Promise.allSettled([qmp.execute("query-status"), qmp.execute("nonsense")]);
  assert.deepEqual(status, { status: "fulfilled", value: { status: "running" } });
  assert.match(String(failure.status === "rejected" && failure.reason), /QMP nonsense: no such command/);
  assert.deepEqual(commands, ["qmp_capabilities", "query-status", "nonsense"]);
});

test("a command that QEMU does not answer any more fails when QEMU is gone, and so do later ones", async () => {
  const { qmp, close } = fakeQemu([]);
  const unanswered = qmp.execute("query-status");
  setImmediate(close);
  await assert.rejects(unanswered, /QEMU is gone/);
  await assert.rejects(qmp.execute("query-status"), /QEMU is gone/);
});
