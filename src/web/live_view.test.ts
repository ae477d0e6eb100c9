import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { FakeServing, gate } from "../../test/web/fake_serving.js";
import { LiveView } from "./live_view.js";
import { Looks } from "./looks.js";

/** What a page would get, read as it comes. */
class Watcher {
  readonly got: { event: string; data: never }[] = [];
  readonly #gone = new AbortController();
  readonly #messages;
  ended: Promise<void> = Promise.resolve();

  constructor(live: LiveView) {
    this.#messages = live.watch(this.#gone.signal);
  }

  /** Takes one message, and no more than that. */
  async take(): Promise<{ event: string; data: never }> {
    const { value, done } = await this.#messages.next();
    assert.ok(!done, "it has ended");
    const message = { event: value.event, data: JSON.parse(value.data) as never };
    this.got.push(message);
    return message;
  }

  /** Takes messages until there is one like this. */
  async until<Data>(event: string, isIt: (data: Data) => boolean = () => true): Promise<Data> {
    for (;;) {
      const message = await this.take();
      if (message.event === event && isIt(message.data)) return message.data;
    }
  }

  async leave(): Promise<void> {
    this.#gone.abort();
    for (;;) if ((await this.#messages.next()).done) return;
  }
}

interface Snapshot {
  history: { number: number; event: string }[];
  state: { status: { fenced: boolean } };
}

function setUp(t: TestContext, patience?: number) {
  const serving = new FakeServing();
  const live = new LiveView(serving, new Looks(serving, patience === undefined ? {} : { patience }));
  const watchers: Watcher[] = [];
  t.after(() => Promise.all(watchers.map((each) => each.leave())));
  const watcher = () => {
    const made = new Watcher(live);
    watchers.push(made);
    return made;
  };
  return { serving, live, watcher };
}

test("a watcher gets a snapshot, then each event once and in order, and what is different", async (t) => {
  const { serving, live, watcher } = setUp(t);
  live.tell({ event: "before" });
  const one = watcher();
  const { history } = await one.until<Snapshot>("snapshot");
  assert.deepEqual(
    history.map(({ event }) => event),
    ["before"],
  );
  serving.state = "failed";
  live.tell({ event: "first" });
  live.tell({ event: "second" });
  await one.until<{ status: { fenced: boolean } }>("state", ({ status }) => !status.fenced);
  const events = one.got.filter(({ event }) => event === "events").flatMap(({ data }) => data as { event: string }[]);
  assert.deepEqual(
    events.map(({ event }) => event),
    ["first", "second"],
  );
});

test("an event has the hardware looked at long before the next look that would come by itself", async (t) => {
  const { serving, live, watcher } = setUp(t);
  const one = watcher();
  await one.until("snapshot");
  // Others do things all the time.
  const flood = setInterval(() => {
    for (let i = 0; i < 50; i++) live.tell({ event: "noise" });
  }, 5);
  t.after(() => clearInterval(flood));
  for (const state of ["failed", "in force", "failed"] as const) {
    serving.state = state;
    const begin = performance.now();
    live.tell({ event: "fence" });
    await one.until<{ status: { fenced: boolean } }>("state", ({ status }) => status.fenced === (state !== "failed"));
    const took = performance.now() - begin;
    t.diagnostic(`told after ${took.toFixed(0)} ms`);
    assert.ok(took < 1000, `${took} ms`);
  }
});

test("thousands of events leave the last 500, and whoever has missed some gets a snapshot again", async (t) => {
  const { live, watcher } = setUp(t);
  const slow = watcher();
  await slow.until("snapshot");
  for (let i = 1; i <= 5000; i++) live.tell({ event: "fence", i });
  const { history } = await slow.until<Snapshot>("snapshot");
  assert.equal(history.length, 500);
  assert.deepEqual([history[0]?.number, history.at(-1)?.number], [4501, 5000]);
  const fresh = watcher();
  assert.equal((await fresh.until<Snapshot>("snapshot")).history.length, 500);
});

test("however much happens and however many watch, one look is under way at a time, and nobody waits in line", async (t) => {
  const { serving, live, watcher } = setUp(t);
  const watchers = Array.from({ length: 20 }, watcher);
  await Promise.all(watchers.map((each) => each.until("snapshot")));
  const slow = gate();
  serving.gate = slow.promise;
  const before = serving.looks;
  for (let i = 0; i < 5000; i++) live.tell({ event: "fence" });
  await pause(200);
  for (let i = 0; i < 5000; i++) live.tell({ event: "fence" });
  assert.ok(serving.looks <= before + 2, `${serving.looks - before} looks`);
  slow.open();
  serving.gate = Promise.resolve();
  await pause(200);
  assert.ok(serving.looks <= before + 4, `${serving.looks - before} looks`);
  assert.equal(serving.mostLooking, 1);
});

test("an event that comes while the hardware is being looked at has it looked at again", async (t) => {
  const { serving, live, watcher } = setUp(t);
  const one = watcher();
  await one.until("snapshot");
  const slow = gate();
  serving.gate = slow.promise;
  live.tell({ event: "fence" });
  while (serving.looking === 0) await pause(5);
  // The look under way has seen the state before this.
  serving.state = "failed";
  live.tell({ event: "fence" });
  const begin = performance.now();
  slow.open();
  await one.until<{ status: { fenced: boolean } }>("state", ({ status }) => !status.fenced);
  assert.ok(performance.now() - begin < 1000);
});

test("when the server cannot be looked at watchers are told, and told again when it can", async (t) => {
  const { serving, live, watcher } = setUp(t);
  const one = watcher();
  await one.until("snapshot");
  const broken = gate();
  broken.fail(new Error("the server has ended"));
  serving.gate = broken.promise;
  live.tell({ event: "fence" });
  assert.match((await one.until<{ why: string }>("blind")).why, /the server has ended/);
  // Who comes now has nothing to look at, and is told so first of all.
  const late = watcher();
  assert.equal((await late.take()).event, "blind");
  serving.gate = Promise.resolve();
  live.tell({ event: "fence" });
  await one.until("state");
  await late.until("snapshot");
});

test("a look that takes too long is none, though it goes on: no other is begun before it has ended", async (t) => {
  const { serving, live, watcher } = setUp(t, 150);
  const one = watcher();
  await one.until("snapshot");
  const stuck = gate();
  serving.gate = stuck.promise;
  const before = serving.looks;
  live.tell({ event: "fence" });
  assert.match((await one.until<{ why: string }>("blind")).why, /has not answered for 0.15 seconds/);
  for (let i = 0; i < 5; i++) {
    live.tell({ event: "fence" });
    await pause(60);
  }
  assert.equal(serving.looks, before + 1);
  stuck.open();
  serving.gate = Promise.resolve();
  await one.until("state");
});

test("a watcher that leaves is forgotten, whatever it waits for, and without one nothing is looked at", async (t) => {
  const { serving, live, watcher } = setUp(t);
  const [idle, waiting] = [watcher(), watcher()];
  await idle.until("snapshot");
  const stuck = gate();
  serving.gate = stuck.promise;
  const first = waiting.take().catch(() => {});
  assert.equal(live.watchers, 2);
  await idle.leave();
  assert.equal(live.watchers, 1);
  stuck.open();
  await first;
  await waiting.leave();
  assert.equal(live.watchers, 0);
  const { looks } = serving;
  live.tell({ event: "fence" });
  await pause(100);
  assert.equal(serving.looks, looks);
});
