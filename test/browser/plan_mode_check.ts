import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { BrowserContextOptions, Page } from "playwright-core";
import { writeCapture } from "../../src/machine/capture.js";
import { VfioUserClient } from "../../src/vfio-user/index.js";
import { linkfence } from "../cli/linkfence.js";
import type { StatusJson } from "../cli/serving_process.js";
import { boardsOf } from "../made_up_boards.js";
import { assertAccessible } from "./axe.js";
import { browserForTests } from "./browser.js";
import { openPage, type ServedPage, servePage } from "./served_page.js";

/** Nothing scrolls here while something is dragged. */
const TALL = { viewport: { width: 1280, height: 2400 } };

describe("plan mode", () => {
  const newPage = browserForTests();

  /** A page at a server of this machine. */
  async function planned(
    t: Parameters<typeof servePage>[0],
    [machine, ...assign]: [string, ...string[]],
    options: BrowserContextOptions = {},
  ): Promise<{ page: Page; served: ServedPage; errors: string[] }> {
    const served = await servePage(t, machine, ...assign);
    const { page, errors } = await newPage(options);
    t.after(() => page.context().close());
    await openPage(page, served.url);
    return { page, served, errors };
  }

  test("by drag: masks, links and the picture change before anything is touched", async (t) => {
    const { page, served, errors } = await planned(t, ["sequoia", "vm1=GPU0,GPU1"], TALL);
    await card(page, "GPU2").dragTo(page.getByRole("form", { name: "New owner" }));
    await says(page, "GPU2 to vm2: plan isolates, cuts 4 links");
    assert.deepEqual(await namesOf(page, "vm2"), ["GPU2"]);
    assert.deepEqual(await masks(page), ["0x000c0000", "0x000c0000", "0x00170000", ...Array(3).fill("0x00000000")]);
    await card(page, "GPU2").dragTo(owner(page, "vm1"));
    await says(page, "GPU2 to vm1: plan isolates, cuts 0 links");
    assert.deepEqual(await namesOf(page, "vm1"), ["GPU0", "GPU1", "GPU2"]);
    await page.getByRole("button", { name: "Reset plan" }).click();
    assert.deepEqual(await namesOf(page, "vm1"), ["GPU0", "GPU1"]);
    assert.deepEqual(await ownersOf(served), { vm1: ["GPU0", "GPU1"] }, "nothing was touched");
    assert.deepEqual(errors, []);
  });

  test("by keyboard alone: owners are added, GPUs moved, and the focus stays with what moves", async (t) => {
    const { page, errors } = await planned(t, ["sequoia", "vm1=GPU0,GPU1,GPU2"]);
    await page.getByLabel("Name", { exact: true }).focus();
    for (const name of ["a", "b", "c", "d", "e"]) {
      await page.keyboard.type(name);
      await page.keyboard.press("Enter");
    }
    await page.keyboard.type("vm1");
    await page.keyboard.press("Enter");
    assert.match((await page.locator("#plan-new-problem").textContent()) ?? "", /there is vm1 already/);
    await page.getByLabel("Owner of GPU1").focus();
    for (const [index, steps] of [1, 2, 3, 4, 5, 6].entries()) {
      // From the host or vm1 to a different one each: vm1, a, b, c, d, e.
      const from = index < 3 ? 1 : 0;
      await page.getByLabel(`Owner of GPU${index}`).focus();
      for (let step = from; step < steps; step++) await page.keyboard.press("ArrowRight");
      assert.equal(await focused(page), `Owner of GPU${index}`);
    }
    const six = ["0x001d0000", "0x001d0000", "0x00170000"];
    assert.deepEqual(await masks(page), [...six, ...six]);
    await page.keyboard.press("ArrowRight");
    assert.deepEqual(await namesOf(page, "e"), ["GPU5"], "there is nobody further right");
    await page.keyboard.press("ArrowLeft");
    await says(page, "GPU5 to d: plan isolates, cuts");
    assert.deepEqual(errors, []);
  });

  test("by its field: every GPU of redbud alone", async (t) => {
    const { page } = await planned(t, ["redbud", "vm1=GPU0"]);
    for (const [index, name] of ["GPU1", "GPU3", "GPU4"].entries()) {
      await page.getByRole("button", { name: "Add" }).click();
      await page.getByLabel(`Owner of ${name}`).selectOption(`vm${index + 2}`);
      assert.equal(await focused(page), `Owner of ${name}`);
    }
    assert.deepEqual(await masks(page), Array(4).fill("0x00150000"));
    await page.getByLabel("Owner of GPU1").selectOption("host");
    await page.getByRole("button", { name: "Remove vm2" }).click();
    assert.equal(await owner(page, "vm2").count(), 0);
    assert.equal(await focused(page), "Name");
  });

  test("what cannot be kept apart is said with what to do, and cannot be applied", async (t) => {
    const folder = mkdtempSync(join(tmpdir(), "linkfence-plan-"));
    t.after(() => rmSync(folder, { recursive: true }));
    const capture = join(folder, "boards.json");
    writeFileSync(capture, writeCapture(boardsOf(2, { gpus: 4, switches: 12 }), new Date(0).toISOString()));
    const { page, served, errors } = await planned(t, [capture, "vm1=GPU0,GPU1,GPU2,GPU3"], TALL);
    assert.equal(await page.getByRole("region", { name: /This plan isolates/ }).count(), 1);
    await card(page, "GPU4").dragTo(page.getByRole("form", { name: "New owner" }));
    await says(page, "GPU4 to vm2: plan does not isolate");
    const verdict = page.getByRole("region", { name: "This plan does not isolate" });
    assert.match(
      (await verdict.textContent()) ?? "",
      /Problem: GPU4 is reset.*give all GPUs on the switch to one owner/,
    );
    await page.getByLabel("Token shown at start").fill(served.token);
    assert.match(
      (await page.locator("#plan-why-not").textContent()) ?? "",
      /^Not possible: the plan does not isolate: GPU4/,
    );
    await page.getByRole("button", { name: /Apply plan/ }).click({ force: true });
    assert.equal(await page.getByRole("dialog").count(), 0);
    const asked = await linkfence("assign", "vm2=GPU4", "--socket-dir", served.socketDir);
    assert.match(asked.stderr, /this plan cannot isolate, so nothing was touched: GPU4/, "the server says the same");
    assert.deepEqual(errors, []);
  });

  test("the command is copied", async (t) => {
    const { page, served } = await planned(t, ["sequoia", "vm1=GPU0,GPU1", "vm2=GPU2"], {
      permissions: ["clipboard-read", "clipboard-write"],
    });
    await page.getByLabel("Owner of GPU2").selectOption("vm1");
    await page.getByRole("button", { name: "Copy command" }).click();
    await page.getByText("Copied", { exact: true }).waitFor();
    const command = `linkfence assign vm1=GPU0,GPU1,GPU2 vm2= --socket-dir ${served.socketDir}`;
    assert.equal(await page.evaluate("navigator.clipboard.readText()"), command);
    await page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })");
    await page.getByRole("button", { name: "Copy command" }).click();
    await page.getByText("Copied", { exact: true }).waitFor();
  });

  test("applying needs the token and a second word, and then the server has it", async (t) => {
    const { page, served, errors } = await planned(t, ["sequoia", "vm1=GPU0,GPU1"]);
    const apply = page.getByRole("button", { name: /Apply plan/ });
    const reason = page.locator("#plan-why-not");
    assert.match((await reason.textContent()) ?? "", /Nothing changes/);
    await page.getByRole("button", { name: "Add" }).click();
    await page.getByLabel("Owner of GPU2").selectOption("vm2");
    assert.match((await reason.textContent()) ?? "", /need the token/);
    await apply.click({ force: true });
    assert.equal(await page.getByRole("dialog").count(), 0, "not without a token");

    await page.getByLabel("Token shown at start").fill("not-the-token");
    await apply.click();
    const dialog = page.getByRole("dialog");
    assert.match((await dialog.textContent()) ?? "", /This machine is virtual.*These GPUs are reset: GPU2/);
    await dialog.getByRole("button", { name: "Cancel" }).click();
    await apply.click();
    await dialog.getByRole("button", { name: "Apply" }).click();
    await page.getByText("the server does not know this token: nothing was touched").waitFor();
    assert.deepEqual(await ownersOf(served), { vm1: ["GPU0", "GPU1"] });

    await page.getByLabel("Token shown at start").fill(served.token);
    await apply.click();
    await dialog.getByRole("button", { name: "Apply" }).click();
    await page.getByText(/applied: everything is fenced, serving vm1 \(GPU0 GPU1\), vm2 \(GPU2\)/).waitFor();
    assert.deepEqual(await ownersOf(served), { vm1: ["GPU0", "GPU1"], vm2: ["GPU2"] });
    await page.getByText("This is what is assigned now.").waitFor();
    assert.match((await reason.textContent()) ?? "", /Nothing changes/);
    const unauthorized = errors.filter((line) => !/status of 401/.test(line));
    assert.deepEqual([unauthorized, errors.length], [[], 1]);
  });

  test("a GPU with a client cannot be taken from its owner", async (t) => {
    const { page, served } = await planned(t, ["sequoia", "vm1=GPU0,GPU1"]);
    const { functions } = await statusOf(served);
    const socket = functions.find(({ name }) => name === "GPU1")?.socket ?? "";
    const client = new VfioUserClient(socket);
    t.after(() => client.close());
    await page.getByText(`In use by process ${process.pid}: it cannot leave vm1`).waitFor();
    await page.getByLabel("Token shown at start").fill(served.token);
    await page.getByLabel("Owner of GPU1").selectOption("host");
    const reason = page.locator("#plan-why-not");
    assert.match((await reason.textContent()) ?? "", new RegExp(`process ${process.pid} is connected to GPU1 of vm1`));
    const response = await fetch(new URL("/api/assignments", served.url), {
      method: "POST",
      headers: { authorization: `Bearer ${served.token}`, "content-type": "application/json" },
      body: JSON.stringify({ assign: ["vm1=GPU0"] }),
    });
    assert.equal(response.ok, false, "the server refuses it too");
    assert.match(await response.text(), /is connected to/);
    client.close();
    await page.getByText("Asks once more before anything is touched.").waitFor();
  });

  test("what others assign meanwhile is said, and the plan is kept", async (t) => {
    const { page, served } = await planned(t, ["sequoia", "vm1=GPU0", "vm2=GPU3"]);
    await page.getByLabel("Owner of GPU1").selectOption("vm1");
    await linkfence("assign", "vm9=GPU5", "--socket-dir", served.socketDir);
    await page.getByText("Assignments have changed since this plan began.").waitFor();
    assert.deepEqual(await namesOf(page, "vm1"), ["GPU0", "GPU1"]);
    await page.getByRole("button", { name: "Keep my moves" }).click();
    assert.deepEqual(await namesOf(page, "vm9"), ["GPU5"]);
    assert.match((await page.locator(".plan-command code").textContent()) ?? "", /assign vm1=GPU0,GPU1 --socket-dir/);
    await linkfence("release", "vm9", "--socket-dir", served.socketDir);
    await page.getByRole("button", { name: "Start anew" }).click();
    assert.deepEqual(await namesOf(page, "vm1"), ["GPU0"]);
    await linkfence("assign", "vm2=GPU3,GPU4", "--socket-dir", served.socketDir);
    await owner(page, "vm2").getByText("GPU4", { exact: true }).waitFor();
  });

  test("is accessible in light and on a dark phone, and no wider than the screen", async (t) => {
    const served = await servePage(t, "sequoia", "vm1=GPU0,GPU1", "vm2=GPU2");
    for (const options of [{}, { colorScheme: "dark", viewport: { width: 360, height: 740 } }] as const) {
      const { page } = await newPage(options);
      await openPage(page, served.url);
      await page.getByLabel("Owner of GPU2").selectOption("vm1");
      await page.getByLabel("Name", { exact: true }).fill("-");
      await page.getByRole("button", { name: "Add" }).click();
      await assertAccessible(page);
      const widths = (await page.evaluate("[innerWidth, document.querySelector('.plan').scrollWidth]")) as number[];
      assert.ok((widths[1] ?? 0) <= (widths[0] ?? 0), `${widths}`);
      await page.getByLabel("Token shown at start").fill("x");
      await page.getByRole("button", { name: /Apply plan/ }).click();
      await assertAccessible(page);
      await page.context().close();
    }
  });
});

function card(page: Page, name: string) {
  return page.locator(".plan-card", { has: page.getByText(name, { exact: true }) });
}

function owner(page: Page, name: string) {
  return page.getByRole("group", { name, exact: true });
}

function namesOf(page: Page, name: string): Promise<string[]> {
  return owner(page, name).locator(".plan-card-head strong").allTextContents();
}

/** Waits until this is told to who does not see it. */
async function says(page: Page, text: string): Promise<void> {
  await page.locator(".plan-said[role=status]", { hasText: text }).waitFor();
}

function focused(page: Page): Promise<unknown> {
  return page.evaluate("document.activeElement.labels[0].textContent");
}

/** The masks to be, by GPU. */
async function masks(page: Page): Promise<string[]> {
  const cards = await page
    .locator(".plan-card")
    .evaluateAll((all) =>
      all.map((each) => [
        each.querySelector("strong")?.textContent ?? "",
        [...each.querySelectorAll("dd code, dd ins")].at(-1)?.textContent ?? "",
      ]),
    );
  return cards.sort().map(([, mask]) => mask ?? "");
}

async function statusOf({ socketDir }: ServedPage): Promise<StatusJson> {
  return JSON.parse((await linkfence("status", "--json", "--socket-dir", socketDir)).stdout);
}

async function ownersOf(served: ServedPage): Promise<Record<string, string[]>> {
  const { assignments, functions } = await statusOf(served);
  const names = new Map(functions.map(({ address, name }) => [address, name]));
  return Object.fromEntries(
    assignments.map(({ name, members }) => [name, members.map((each) => names.get(each) ?? each)]),
  );
}
