import assert from "node:assert/strict";
import { test } from "node:test";
import { pause, type Steps, waitUntil } from "../vfio/index.js";
import { TaskRunner } from "./task_runner.js";

const OWNER = {};

test("what one task waits for and another does is seen before anybody sleeps", () => {
  const tasks = new TaskRunner();
  const order: string[] = [];
  let isFree = false;
  const waits = function* (): Steps {
    order.push((yield* waitUntil(() => isFree, 60_000)) ? "went on" : "gave up");
  };
  const frees = function* (): Steps {
    yield* pause(0);
    isFree = true;
    yield* pause(60_000);
  };
  // The one that waits is asked first, and in vain.
  tasks.start(OWNER, waits(), () => order.push("ended"));
  tasks.start(OWNER, frees(), () => {});
  for (let turn = 0; turn < 3 && tasks.timeout() === 0; turn++) tasks.run();
  assert.deepEqual(order, ["went on", "ended"]);
  tasks.run();
  assert.ok(tasks.timeout() > 1000, "then it sleeps");
  tasks.cancel(OWNER);
  assert.equal(tasks.timeout(), -1);
});

test("steps that throw nothing have failed all the same", () => {
  const tasks = new TaskRunner();
  let error: unknown;
  const fails = function* (): Steps {
    yield* pause(0);
    throw undefined;
  };
  tasks.start(OWNER, fails(), (thrown) => {
    error = thrown;
  });
  tasks.run();
  assert.ok(error instanceof Error);
  assert.equal(tasks.isIdle, true);
});
