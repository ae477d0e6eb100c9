import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { writeCapture } from "../../src/machine/capture.js";
import { boardsOf } from "../made_up_boards.js";
import type { OpenPage } from "./browser.js";
import { openPage, readyAfter, servePage } from "./served_page.js";

/** Serves the page of six GPUs. @returns where */
export async function smallPage(t: Pick<TestContext, "after">): Promise<string> {
  return (await servePage(t, "sequoia", "vm1=GPU0,GPU1", "vm2=GPU2")).url;
}

/** Serves the page of 72 GPUs with 864 links into NVSwitches. @returns where */
export async function largePage(t: Pick<TestContext, "after">): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "linkfence-page-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const machine = boardsOf(18, { gpus: 4, switches: 12, shared: true });
  const capture = join(folder, "72-gpus.json");
  writeFileSync(capture, writeCapture(machine, "2026-01-01T00:00:00Z"));
  return (await servePage(t, capture, `vm1=${machine.gpus.map(({ name }) => name).join(",")}`)).url;
}

/** Loads a page again and again in one browser. @returns milliseconds from each navigation to the machine shown */
export async function pageLoads(open: OpenPage, url: string, rounds: number): Promise<number[]> {
  const { page } = await open();
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) {
    await openPage(page, url);
    times.push(await readyAfter(page));
  }
  await page.context().close();
  return times;
}
