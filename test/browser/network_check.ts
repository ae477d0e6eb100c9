import assert from "node:assert/strict";
import { test } from "node:test";
import { browserForTests } from "./browser.js";
import { unfold } from "./reflow.js";
import { openPage, servePage } from "./served_page.js";

const newPage = browserForTests();

// The browser knows no name and no address but this machine's, so whatever asked somebody else would fail as well.
test("the page asks nobody but its server, and breaks no rule of its own policy", async (t) => {
  const { url, server } = await servePage(t, "sequoia", "vm1=GPU0,GPU1", "vm2=GPU2");
  const { page, errors } = await newPage();
  const asked: string[] = [];
  page.on("request", (request) => asked.push(request.url()));
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) =>
      console.error(`${violatedDirective} does not allow ${blockedURI}`),
    );
  });
  await openPage(page, url);
  await page.getByLabel("libvirt").check();
  await unfold(page);
  assert.equal(errors.length, 0, errors.join("\n"));
  assert.deepEqual(
    [...new Set(asked.filter((each) => !each.startsWith("data:")))],
    [url, new URL("/api/events", url).href],
  );

  // What the check is for: a script from elsewhere, and one that somebody has smuggled in, are found.
  await page.evaluate(() => {
    const script = document.createElement("script");
    script.textContent = "window.smuggled = true";
    document.body.append(script);
    new Image().src = "http://192.0.2.1/pixel.png";
  });
  await page.waitForTimeout(100);
  assert.equal(await page.evaluate(() => "smuggled" in window), false);
  assert.equal(errors.filter((error) => error.includes("does not allow")).length, 2, errors.join("\n"));

  await server.end("SIGKILL");
  await page.getByRole("alert").getByText("Not live since").waitFor();
  const others = asked.filter((each) => !each.startsWith(url) && !each.startsWith("data:"));
  assert.deepEqual(others, ["http://192.0.2.1/pixel.png"]);
});
