import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { Page } from "playwright-core";
import { LINK_DISABLE } from "../../src/machine/part.js";
import { VfioUserClient } from "../../src/vfio-user/index.js";
import { assertAccessible } from "./axe.js";
import { browserForTests } from "./browser.js";
import { openPage, type ServedPage, servePage, servePageOn } from "./served_page.js";

/** The socket of a function whose file begins so. */
function socketOf({ socketDir }: ServedPage, name: string): string {
  return join(socketDir, readdirSync(socketDir).find((file) => file.startsWith(name)) ?? "none");
}

/** The cells of a row of the table of fences, as they read. */
function fence(page: Page, gpu: string): Promise<string[]> {
  const row = page.locator("table.fences tr", { has: page.getByRole("rowheader", { name: gpu, exact: true }) });
  return row.getByRole("cell").allInnerTexts();
}

describe("the page", () => {
  const newPage = browserForTests();

  test("shows in every part what is, and follows what happens", async (t) => {
    const served = await servePage(t, "sequoia", "vm1=GPU0,GPU1", "vm2=GPU2");
    const { page, errors } = await newPage();
    await openPage(page, served.url);

    await t.test("the machine and its state are said in words, in the title too", async () => {
      assert.match(await page.locator("h1").innerText(), /^sequoia\s+virtual hardware$/);
      assert.match(await page.locator(".summary").innerText(), /fenced nothing crosses between owners/);
      assert.match(await page.locator(".facts").innerText(), new RegExp(`process ${served.server.pid}, since`));
      assert.equal(await page.title(), "fenced: sequoia (virtual), linkfence");
    });

    await t.test("each fence has its owner, its links and masks, and the registers in words", async () => {
      const cells = await fence(page, "GPU2");
      assert.deepEqual(
        [...cells.slice(0, 3), ...cells.slice(4)],
        ["0004:06:00.0", "vm2", "✓ in force", "none", "0-2 4", "3 5", "0x00170000", "0x00170000"],
      );
      const registers = page.locator("#fences details", { hasText: "GPU2" });
      assert.match(await registers.innerText(), /link disable mask\s+0xa00148\s+0x00170000\s+cuts links 0, 1, 2, 4/);
    });

    await t.test("isolation now and possible stand side by side, with what separates each pair", async () => {
      const columns = await page.locator("#isolation .card").allInnerTexts();
      assert.match(columns[1] ?? "", /^Not separated now\s+GPU0\s*GPU1\s/);
      assert.equal((columns[2] ?? "").match(/GPU\d/g)?.length, 6);
      assert.match(
        await page.locator("#isolation table").first().innerText(),
        /GPU0 and GPU1\s+NVLink.*cut links 0, 4 of GPU0/,
      );
    });

    await t.test("a client, its trapped writes and its resets are followed", async () => {
      const client = new VfioUserClient(socketOf(served, "GPU0"));
      try {
        for (let write = 0; write < 60; write++) client.write(0, LINK_DISABLE, new Uint8Array(4));
        client.reset();
        await page
          .locator("#timeline tbody tr", { hasText: /reset and fenced: cut links 2, 3/ })
          .nth(1)
          .waitFor();
        // On a busy machine they are more than one burst.
        await page.waitForFunction(() => {
          const rows = [...document.querySelectorAll("#timeline tbody tr")].map((row) => row.textContent ?? "");
          const trapped = rows.filter((text) => text.includes("was trapped: nothing was written"));
          return trapped.reduce((sum, text) => sum + Number(/(\d+) times/.exec(text)?.[1] ?? 1), 0) === 60;
        });
        await page.locator("table.fences", { hasText: `process ${process.pid}` }).waitFor();
        assert.equal(await page.locator("#timeline .lane", { hasText: "GPU0" }).locator(".bar.good").count(), 2);
        assert.match((await fence(page, "GPU0"))[3] ?? "", /^\d\d:\d\d:\d\d$/);
      } finally {
        client.close();
      }
      await page.locator("#timeline tbody tr", { hasText: /disconnected/ }).waitFor();
      assert.match(await page.locator('div.unseen[role="status"]').innerText(), /reset and fenced: GPU0/);
    });

    await t.test("what to paste is there for both, and copied", async () => {
      const vm2 = page.locator("#attach .card", { hasText: "vm2" });
      assert.match(await vm2.locator("pre").innerText(), /"driver":"vfio-user-pci".*GPU2-0004:06:00\.0\.sock/s);
      await page.getByLabel("libvirt").check();
      const shown = await vm2.locator("pre").innerText();
      assert.match(shown, /<qemu:commandline>/);
      await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
      await vm2.getByRole("button", { name: "Copy" }).click();
      await vm2.getByText("Copied").waitFor();
      assert.equal((await page.evaluate(() => navigator.clipboard.readText())).trim(), shown.trim());
    });

    assert.deepEqual(errors, []);
  });

  test("keys get to every part, and past what is above it", async (t) => {
    const { url } = await servePage(t, "c4140", "vm1=GPU0");
    const { page } = await newPage();
    await openPage(page, url);
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement?.textContent), "Skip to the content");
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement?.id), "main");
    await page.getByRole("link", { name: "Isolation" }).press("Enter");
    await page.waitForFunction(() => {
      const top = document.getElementById("isolation")?.getBoundingClientRect().top ?? -1;
      return top >= 0 && top < innerHeight / 2;
    });
  });

  test("a server that is killed leaves nothing that looks live, and is found again", async (t) => {
    const first = await servePage(t, "redbud", "vm1=GPU0");
    const { page } = await newPage();
    await openPage(page, first.url);
    await page.locator(".tag.good").first().waitFor();
    await first.server.end("SIGKILL");
    await page.locator(".lost").waitFor();
    assert.equal(await page.locator(".tag.good, .tag.bad, .tag.waiting").count(), 0);
    assert.match(await page.title(), /^state not known: redbud/);
    assert.match(await page.locator("#fences h2").innerText(), /Fences as of \d\d:\d\d:\d\d/);
    await assertAccessible(page);
    const second = await servePageOn(t, new URL(first.url).port, "redbud", "vm2=GPU1");
    await page.locator(".lost").waitFor({ state: "detached" });
    await page.locator(".facts", { hasText: `process ${second.server.pid}` }).waitFor();
    assert.deepEqual((await fence(page, "GPU1"))[1], "vm2");
  });
});
