import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { htmlOutline } from "../../../test/html_outline.js";
import { boardsOf } from "../../../test/made_up_boards.js";
import { gpu, machineOf, to, withMask } from "../../../test/made_up_machine.js";
import { anyMachine } from "../../../test/picture/any_machine.js";
import { audit } from "../../isolation/findings.js";
import { builtinMachine } from "../../machine/builtin.js";
import type { Assignment, Machine } from "../../machine/machine.js";
import { pictureOf } from "../../picture/picture.js";
import { reportHtml } from "./report_html.js";
import type { ReportSource } from "./report_source.js";

const AT = "2026-03-04T05:06:07.890Z";
const HOSTILE = `</td></table></svg></style><script>alert("1")</script><!-- ]]>&lt; \u202e\u0007\ud800 ${"W".repeat(300)}`;

function sourceOf(
  machine: Machine,
  assignments: readonly Assignment[] = [],
  more: Partial<ReportSource> = {},
): ReportSource {
  return {
    machine,
    assignments,
    assignedBy: "the command line",
    isolation: {},
    audit: audit(machine, assignments),
    command: "linkfence audit --capture host.json",
    again: ["linkfence audit --capture host.json --format html"],
    version: "1.2.3",
    at: AT,
    ...more,
  };
}

function report(...args: Parameters<typeof sourceOf>): string {
  return reportHtml(sourceOf(...args));
}

/** What a reader sees, tags left out. */
function textOf(html: string): string {
  const body = html.slice(html.indexOf("<body>")).replace(/<svg.*?<\/svg>/gs, "");
  return body
    .replace(/<[^>]*>/g, "")
    .replaceAll("&lt;", "<")
    .replaceAll("&quot;", '"')
    .replaceAll("&amp;", "&")
    .replace(/\s+/g, " ");
}

const TAGS =
  /^(html|head|meta|title|style|body|header|main|section|nav|h[1-3]|p|strong|span|bdi|code|pre|time|a|ul|ol|li|div|dl|dt|dd|table|caption|thead|tbody|tr|th|td|svg|desc|rect|path|text|g|defs|pattern)$/;

/** Holds for every report: it is well formed, itself alone, and no name in it is anything but text. */
function harmless(html: string): void {
  for (const element of htmlOutline(html)) assert.match(element.split(" ")[1] ?? "", TAGS);
  assert.match(
    html,
    /<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/,
  );
  assert.doesNotMatch(html.replaceAll("\n", ""), /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u, "nothing that does not print");
  const tags = [...html.matchAll(/<[a-z][^>]*>/g)].map(([tag]) => tag).join("\n");
  assert.doesNotMatch(tags, /\s(?:src|srcset|on\w+|data|action|formaction)=|@import|javascript:/i);
  for (const [, address = ""] of tags.matchAll(/\shref="([^"]*)"/g)) assert.match(address, /^#[a-z-]+\d*$/);
  for (const [, address = ""] of html.matchAll(/url\(([^)]*)\)/g)) assert.match(address, /^#lf-owner-\d+$/);
}

test("names from a machine are text in the report and nothing else", () => {
  const { gpus, ...rest } = builtinMachine("sequoia");
  const machine: Machine = {
    ...rest,
    name: HOSTILE,
    source: HOSTILE,
    kernel: { release: HOSTILE, commandLine: HOSTILE },
    unknown: [{ what: HOSTILE, functions: [], action: HOSTILE }],
    gpus: gpus.map((one, index) => ({
      ...one,
      name: `${index}${HOSTILE}`,
      links: one.links.map((link) => ({
        ...link,
        evidence: { registers: [{ offset: 0, value: 0 }], readAt: HOSTILE },
      })),
    })),
  };
  const members = gpus.slice(0, 1).map(({ address }) => address);
  const html = report(machine, [{ name: "vm1", members }], { command: HOSTILE, again: [HOSTILE], assignedBy: HOSTILE });
  harmless(html);
  assert.ok(html.includes("&lt;script>alert(&quot;1&quot;)&lt;/script>"));
  harmless(report(machineOf([])));
});

test("a report of any machine is well formed and harmless", () => {
  fc.assert(
    fc.property(anyMachine, ({ machine, assignments }) => harmless(report(machine, assignments))),
    { numRuns: 60 },
  );
  assert.throws(() => htmlOutline("<p><b></p></b>"));
  assert.throws(() => htmlOutline("<p>1 < 2</p>"));
  assert.throws(() => htmlOutline("<p>"));
});

test("the same source makes the same report, and another time changes that time alone", () => {
  const source = sourceOf(builtinMachine("sequoia"));
  assert.equal(reportHtml(source), reportHtml(source));
  const later = reportHtml({ ...source, at: "2027-03-04T05:06:07.890Z" });
  assert.equal(later.replaceAll("2027-", "2026-"), reportHtml(source));
});

test("findings have the picture's numbers, with reason and action, also at the links they are about", () => {
  const machine = builtinMachine("c4140");
  const assignments = machine.gpus.map(({ address, name }) => ({ name: `vm-${name}`, members: [address] }));
  const html = report(machine, assignments);
  const { findings } = pictureOf(machine, assignments);
  assert.equal(findings.length, 6);
  for (const { number, reason, action } of findings) {
    const item = new RegExp(`<li id="finding-${number}">.*?</li>`, "s").exec(html)?.[0] ?? "";
    assert.ok(textOf(`<body>${item}`).startsWith(`${number}NVLink ${reason}What to do: ${action}`), item);
    assert.equal(html.split(`href="#finding-${number}"`).length - 1, 4, "two links with two ends");
  }
  assert.match(textOf(html), /6 findings: something crosses between owners, or may\./);
});

test("what is virtual is called so where nobody can overlook it, and what is real is not", () => {
  const [virtual, real] = [true, false].map((kind) => report(machineOf([], { virtual: kind })));
  assert.match(
    textOf(virtual ?? ""),
    /^ ?NVLink audit of made-up \(virtual\).*Virtual hardware\. This machine is a model/,
  );
  assert.match(virtual ?? "", /<title>NVLink audit of made-up \(virtual\)<\/title>/);
  assert.doesNotMatch(textOf(real ?? ""), /virtual/i);
});

test("a link's state is what registers prove, and they are shown with their values, in words, and when they were read", () => {
  const [a, b, c] = ["0000:41:00.0", "0000:42:00.0", "0000:43:00.0"];
  const cut = withMask(gpu(a, "GPU0", [to(b, 0), to(c, 0)]), 0x00030000);
  const readAt = ["2026-01-02T03:04:05.000Z", "2026-01-02T03:04:09.000Z"];
  const links = cut.links.map((link, index) => ({
    ...link,
    evidence: { registers: link.evidence?.registers ?? [], readAt: readAt[index] ?? "" },
  }));
  const lying = gpu(b, "GPU1", [to(a, 0)]);
  const machine = machineOf([
    { ...cut, links },
    { ...lying, links: lying.links.map((link) => ({ ...link, state: "cut" as const })) },
    withMask(gpu(c, "GPU2", [to(a, 1)]), 0x00010000),
  ]);
  const text = textOf(report(machine));
  assert.match(text, /0GPU1 link 0cut at one end, this one/);
  assert.match(text, /1GPU2 link 0cut at both ends/);
  assert.match(text, /0GPU0 link 0cut at one end, the far one/);
  assert.match(text, /Registers of GPU0, read 2026-01-02 03:04:05 UTC to 2026-01-02 03:04:09 UTC/);
  assert.match(text, /link disable mask0xa001480x00030000cuts links 0, 1/);
  assert.match(text, /Registers of GPU2, read at a time that is not known/);
  assert.match(text, /No register was read as evidence/);
  assert.match(text, /Registers readof 2 of 3 GPUs, from 2026-01-02 03:04:05 UTC to 2026-01-02 03:04:09 UTC/);
});

test("far ends that are inferred, contested or not known are called so", () => {
  const [a, b] = ["0000:41:00.0", "0000:42:00.0"];
  const one = gpu(a, "GPU0", [to(b, 0), { kind: "unknown" }, { kind: "none" }]);
  const links = one.links.map((link) => ({ ...link, assumed: true, origin: "nvidia-smi" as const }));
  const html = report(machineOf([{ ...one, links }, gpu(b, "GPU1", [{ kind: "none" }])]));
  const text = textOf(html);
  assert.match(text, /GPU1 link 0 \(descriptions contradict each other\)/);
  assert.match(text, /nvidia-smi, assumed/);
  assert.match(text, /1not known/);
  assert.match(text, /2nothing/);
});

test("it says what it was made from, who owns what, and how to make it again", () => {
  const machine = { ...builtinMachine("sequoia"), kernel: { release: "5.4.0", commandLine: "quiet isolate_nvlink" } };
  const [first, second] = machine.gpus.map(({ address }) => address);
  const text = textOf(report(machine, [{ name: "vm1", members: [first ?? "", "0006:00:00.0"] }]));
  assert.match(text, /Read frombuilt-in wiring plan/);
  assert.match(text, /Kernel5\.4\.0Kernel command linequiet isolate_nvlink/);
  assert.match(
    text,
    /Report made2026-03-04 05:06:07 UTCBylinkfence 1\.2\.3Commandlinkfence audit --capture host\.json/,
  );
  assert.match(text, /To make it again.*linkfence audit --capture host\.json --format html/);
  assert.match(text, /1 assignment, from the command line.*vm1GPU0 0006:00:00\.0 hostGPU1 GPU2 GPU3 GPU4 GPU5 none/);
  assert.ok(second !== undefined);
  assert.match(textOf(report(machine)), /each IOMMU group counts as one owner/);
});

test("isolation now and possible stand side by side, with reason and action for each pair", () => {
  const text = textOf(report(builtinMachine("c4140")));
  assert.match(text, /Not separated nowGPU0 GPU1 GPU2 GPU3 Not separable by any known actionGPU0 GPU1 GPU2 GPU3 /);
  assert.match(
    text,
    /GPU0GPU1 NVLink2 NVLinks between GPU0 and GPU1 not cut \(links 0, 1 of GPU0\)cut links 0, 1 of GPU0/,
  );
});

test("more links than anybody could see are listed without a picture, and it is said", () => {
  const html = report(boardsOf(128, { gpus: 8, switches: 20 }));
  assert.doesNotMatch(html, /<svg/);
  assert.match(textOf(html), /20480 links are too many for a picture \(20000 at most\); all of them are listed below/);
  assert.equal(html.match(/<section aria-labelledby="gpu-/g)?.length, 1024);
});
