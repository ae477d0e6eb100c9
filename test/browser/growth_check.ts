import assert from "node:assert/strict";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { residentOf } from "../../bench/process_usage.js";
import { LINK_DISABLE } from "../../src/machine/part.js";
import { Guest } from "../serving/guest.js";
import { browserForTests } from "./browser.js";
import { openPage, type ServedPage, servePage, socketOf } from "./served_page.js";

/** More than page and server keep, so that from then on each new one takes the place of an old one. */
const FILLING = 600;
const EVENTS = 1000;
/** What may have been added by chance: nodes, listeners, and bytes of the page's and of the server's memory. */
const MOST = { nodes: 100, listeners: 20, heap: 1 << 20, server: 24 << 20 };

const newPage = browserForTests();

type Size = Record<keyof typeof MOST, number>;

test(`a page that is left open and its server are no larger after ${EVENTS} events`, async (t) => {
  const served = await servePage(t, "sequoia", "vm1=GPU0,GPU1", "vm2=GPU2");
  const { page, errors } = await newPage();
  await openPage(page, served.url);
  await happen(served, FILLING);
  const before = await sizeOf(page, served);
  await happen(served, EVENTS);
  const after = await sizeOf(page, served);
  t.diagnostic(`before ${JSON.stringify(before)}, after ${JSON.stringify(after)}`);
  assert.deepEqual(grown(before, after), []);
  assert.deepEqual(errors, []);

  // What the check is for: a page that keeps a little of each change is found.
  await page.evaluate(() => {
    const kept: Node[] = [];
    new MutationObserver((changes) => {
      for (const { target } of changes) kept.push(target.cloneNode(true));
    }).observe(document.body, { subtree: true, childList: true });
  });
  await happen(served, EVENTS / 5);
  assert.ok(grown(after, await sizeOf(page, served)).includes("nodes"));
});

/** Guests come, reset their GPUs, try to open their fences, and go, until so many events were told. */
async function happen({ server, ...served }: ServedPage, events: number): Promise<void> {
  const enough = server.lines.length + events;
  while (server.lines.length < enough) {
    for (const name of ["GPU0", "GPU1", "GPU2"]) {
      const guest = new Guest(socketOf({ server, ...served }, name));
      guest.reset();
      for (let write = 0; write < 5; write++) guest.setRegister(LINK_DISABLE, write);
      guest.close();
      // The server's lines are read in between.
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

/** What is there when all garbage has gone. */
async function sizeOf(page: Page, { server }: ServedPage): Promise<Size> {
  // The last ones are shown, and what follows from them is over.
  await page.waitForTimeout(1000);
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable");
  await session.send("HeapProfiler.collectGarbage");
  const { metrics } = await session.send("Performance.getMetrics");
  await session.detach();
  const of = (name: string) => metrics.find((metric) => metric.name === name)?.value ?? Number.NaN;
  return {
    nodes: of("Nodes"),
    listeners: of("JSEventListeners"),
    heap: of("JSHeapUsedSize"),
    server: residentOf(server),
  };
}

/** What is larger than it may be. */
function grown(before: Size, after: Size): string[] {
  const names = Object.keys(MOST) as (keyof Size)[];
  return names.filter((name) => !(after[name] <= before[name] + MOST[name]));
}
