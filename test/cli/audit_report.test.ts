import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { describe, test } from "node:test";
import { htmlOutline } from "../html_outline.js";
import { json } from "./json_schema.js";
import type { AuditJson } from "./json_shapes.js";
import { linkfence, MAIN, printed, refused, run, scratchFolder } from "./linkfence.js";

const folder = scratchFolder();
const SEQUOIA = ["audit", "--machine", "sequoia"];
const TENANTS = ["--assign", "vm1=GPU0,GPU1", "--assign", "vm2=GPU2"];
const NO_TIME = /\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+Z)?/g;

describe("audit as a report", { concurrency: 2 }, () => {
  test("a file is one document, and the exit code is that of the audit", async () => {
    const [bad, good] = [folder.path("bad.html"), folder.path("good.html")];
    assert.equal(
      await printed(1, ...SEQUOIA, ...TENANTS, "--format", "html", "--out", bad),
      `2 findings in sequoia, written to ${bad}\n`,
    );
    assert.equal(
      await printed(0, ...SEQUOIA, "--format", "html", "--out", good),
      `0 findings in sequoia, written to ${good}\n`,
    );
    const html = readFileSync(bad, "utf8");
    assert.ok(htmlOutline(html).length > 500);
    assert.ok(html.includes(`<code>linkfence audit --machine sequoia ${TENANTS.join(" ")} --format html --out ${bad}`));
  });

  test("standard output has the same, with no name or with -", async () => {
    const runs = await Promise.all([
      printed(1, ...SEQUOIA, ...TENANTS, "--format", "html"),
      printed(1, ...SEQUOIA, ...TENANTS, "--format", "html", "--out", "-"),
    ]);
    const [plain, dash] = runs.map((html) => html.replace(NO_TIME, "").replaceAll(" --out -", ""));
    assert.match(plain ?? "", /^<!doctype html>\n<html lang="en">.*<\/html>\n$/s);
    assert.equal(plain, dash);
  });

  test("assignments of a capture are said to be its own, and evidence is shown", async () => {
    const capture = folder.path("fenced.json");
    await printed(0, "fence", "--machine", "sequoia", ...TENANTS, "--json", "--out", capture);
    const html = await printed(0, "audit", "--capture", capture, "--format", "html");
    assert.match(html, /2 assignments, from the capture/);
    assert.match(html, /link disable mask/);
    assert.match(html, /cut at both ends/);
  });

  test("--format json is --json, --format text is neither, and each goes to a file", async () => {
    const { findings } = await json<AuditJson>(1, "audit", ...SEQUOIA.slice(1), ...TENANTS);
    assert.equal(findings.length, 2);
    for (const format of ["json", "text"]) {
      const out = folder.path(`audit.${format}`);
      const text = await printed(1, ...SEQUOIA, ...TENANTS, "--format", format);
      assert.equal(text, await printed(1, ...SEQUOIA, ...TENANTS, ...(format === "json" ? ["--json"] : [])));
      assert.match(
        await printed(1, ...SEQUOIA, ...TENANTS, "--format", format, "--out", out),
        /^2 findings in sequoia/,
      );
      assert.equal(readFileSync(out, "utf8"), text);
    }
  });

  test("bad input is refused in one line, and nothing is written", async () => {
    const out = folder.path("none/at/all.html");
    const cases: [string[], RegExp][] = [
      [["--format", "pdf"], /--format pdf: expected text, json or html/],
      [["--format", "html", "--json"], /name one format/],
      [["--format", "html", "--out", out], /there is no folder/],
      [["--format", "html", "--out", ""], /--out needs the name of a file/],
      [["--format", "html", "--assign", "vm1=GPU9"], /no GPU "GPU9"/],
    ];
    for (const [args, why] of cases) assert.match(refused(await linkfence(...SEQUOIA, ...args), args.join(" ")), why);
    const kept = folder.file("kept.html", "old");
    refused(await linkfence("audit", "--machine", "none", "--format", "html", "--out", kept), "no machine");
    assert.equal(readFileSync(kept, "utf8"), "old");
    assert.equal(existsSync(out), false);
    assert.deepEqual(
      readdirSync(dirname(kept)).filter((name) => name.startsWith("kept.html.")),
      [],
    );
  });

  const noScript = spawnSync("script", ["--version"]).error !== undefined && "script is not installed";
  const onTerminal = (args: string) =>
    run("env", ["TERM=xterm", "script", "-qec", `"${process.execPath}" "${MAIN}" ${args}`, "/dev/null"]);

  test("a terminal gets no HTML unless it is asked for", { skip: noScript }, async () => {
    const { status, stdout } = await onTerminal("audit --machine redbud --format html");
    assert.equal(status, 2);
    assert.match(stdout, /^linkfence: --format html .*--out FILE\r?\n$/);
    assert.match((await onTerminal("audit --machine redbud --format html --out -")).stdout, /<\/html>/);
  });

  test("a file has neither the colours of a terminal nor its width", { skip: noScript }, async () => {
    const out = folder.path("plain.txt");
    await onTerminal(`${SEQUOIA.join(" ")} ${TENANTS.join(" ")} --out ${out}`);
    assert.equal(readFileSync(out, "utf8"), await printed(1, ...SEQUOIA, ...TENANTS));
  });
});
