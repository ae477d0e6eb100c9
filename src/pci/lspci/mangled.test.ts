import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { processorTime } from "../../../test/processor_time.js";
import { runs } from "../../../test/runs.js";
import { LspciError, parseLspci } from "../lspci.js";

const LISTINGS = ["carrier_v.txt", "carrier_vvv.txt", "dump.txt"].map((name) => ({
  name,
  text: readFileSync(new URL(`../../../test/data/lspci/${name}`, import.meta.url), "utf8"),
}));

/** What a text says, without the line numbers. */
function facts(text: string): unknown {
  return parseLspci(text).functions.map(({ text: { line: _, ...rest }, ...fn }) => ({ ...fn, rest }));
}

/** Columns of a line as a mail program counts them. */
function width(line: string): number {
  let columns = 0;
  for (const char of line) columns += char === "\t" ? 8 - (columns % 8) : 1;
  return columns;
}

/** Breaks lines at the last space before a column; each piece begins with the quote mark and no indentation. */
function wrap(text: string, columns: number, quote: string): string {
  return text
    .split("\n")
    .flatMap((line) => wrapLine(quote + line, columns, quote))
    .join("\n");
}

function wrapLine(line: string, columns: number, quote: string): string[] {
  if (width(line) <= columns) return [line];
  let at = line.lastIndexOf(" ");
  while (at > quote.length && width(line.slice(0, at)) > columns) at = line.lastIndexOf(" ", at - 1);
  if (at <= quote.length || line.slice(quote.length, at).trim() === "") return [line];
  return [line.slice(0, at), ...wrapLine(quote + line.slice(at + 1), columns, quote)];
}

const MANGLERS: Readonly<Record<string, (text: string) => string>> = {
  "carriage returns": (text) => text.replaceAll("\n", "\r\n"),
  "trailing white space": (text) => text.replaceAll("\n", " \t\n"),
  "a byte order mark": (text) => `\ufeff${text}`,
  "one level of quoting": (text) => text.replace(/^/gm, "> "),
  "tight quoting": (text) => text.replace(/^/gm, ">>"),
  "mixed quoting": (text) =>
    text
      .split("\n")
      .map((line, i) => [">> ", "> > ", ">", " > "][i % 4] + line)
      .join("\n"),
  "eight spaces for a tab": (text) => text.replaceAll("\t", "        "),
  "one space for a tab": (text) => text.replaceAll("\t", " "),
  "no-break spaces for a tab": (text) => text.replaceAll("\t", "\u00a0\u00a0"),
  "no indentation left": (text) => text.replaceAll("\t", ""),
  "all of it indented": (text) => text.replace(/^(?=.)/gm, "    "),
  "a code fence": (text) => `Here it is:\n\`\`\`console\n${text}\`\`\`\nthanks\n`,
  "a blank line behind each line": (text) => text.replaceAll("\n", "\n\n"),
  "a prompt before each function": (text) => text.replace(/\n\n(\S+)/g, "\nroot@host:~# lspci -vvs $1\n$1"),
  "prose before each function": (text) =>
    text.replaceAll("\n\n", "\n\nThe next one, as of 10:30.1: see below.\n10:10.1 the usual: nothing\n\n"),
  "prose right behind each function": (text) => text.replaceAll("\n\n", "\nThe next one is right below.\n"),
};

test("a listing says the same whatever a mail program, an editor or its writer did to it", () => {
  for (const { name, text } of LISTINGS) {
    const expected = facts(text);
    for (const [what, mangle] of Object.entries(MANGLERS))
      assert.deepEqual(facts(mangle(text)), expected, `${name}: ${what}`);
  }
});

test("a listing says the same wrapped at 60 to 100 columns, quoted or not, with its indentation or without", () => {
  for (const { name, text } of LISTINGS) {
    const expected = facts(text);
    for (const columns of [60, 66, 72, 76, 80, 100]) {
      for (const quote of ["", "> ", ">> "]) {
        for (const source of [text, text.replaceAll("\t", "        "), text.replaceAll("\t", "")]) {
          assert.deepEqual(facts(wrap(source, columns, quote)), expected, `${name} at ${columns} behind "${quote}"`);
        }
      }
    }
  }
});

test("manglings add up", () => {
  const [listing] = LISTINGS;
  assert.ok(listing);
  const expected = facts(listing.text);
  // Whatever moves or removes indentation comes first, as it does on the way from a terminal into a mail.
  const text = MANGLERS["eight spaces for a tab"]?.(listing.text) ?? "";
  const quoted = wrap(text, 72, "> ").replace(/^/gm, "> ").replaceAll("\n", "\r\n");
  assert.deepEqual(facts(`On Tuesday somebody wrote:\r\n${quoted}\r\nI see.\r\n`), expected);
});

const BLOWUPS: Readonly<Record<string, string>> = {
  spaces: " ",
  "quote marks": "> ",
  brackets: "[",
  "half a revision": "(rev a",
  "half a programming interface": "(prog-if 00 [",
  "half an id": "[10de:",
  quotes: '"\\',
  "hex dump without lines": "00: 00 ",
  path: "/00:00.0",
  modules: "a, ",
  flags: "SrcValid+ ",
  lines: "\n",
};

/** Reads a text of some hundred kilobytes. What is quadratic in it takes minutes. */
function read(text: string): string | undefined {
  let address: string | undefined;
  const took = processorTime(() => {
    address = parseLspci(text).functions[0]?.address;
  });
  assert.ok(took < runs(5_000), `${took} ms for ${text.slice(0, 100)}`);
  return address;
}

test("endless lines do not stall the reader, whatever they repeat", () => {
  const header = "0000:03:00.0 3D controller: NVIDIA Corporation GK210GL [Tesla K80] (rev a1)\n";
  const starts = ["", "00:00.0", '00:00.0 "', "\tKernel modules: ", "\tCapabilities: [60] ", "\tMemory at ", "10: "];
  for (const piece of Object.values(BLOWUPS)) {
    const filler = piece.repeat(runs(1 << 17) / piece.length);
    for (const start of starts) assert.equal(read(header + start + filler), "0000:03:00.0");
  }
});

test("endlessly many lines do not stall the reader, whatever they are", () => {
  const header = "0000:03:00.0 3D controller: NVIDIA Corporation GK210GL [Tesla K80] (rev a1)\n";
  const lines = [
    "\tCapabilities: [78 v1] Express (v2) Endpoint, MSI 00\n",
    "\t\tDevCap: MaxPayload\n",
    "\tFlags: fast devsel,\n",
    "\tMemory at 1000 (64-bit, prefetchable) [size=1M]\n",
    "00: 00\n",
    "[10de:1db1]\n",
    header,
  ];
  for (const line of lines) {
    assert.equal(read(header + line.repeat(runs(20_000))), "0000:03:00.0", line.trim());
  }
});

test("whatever is cut out of a listing, it is read or refused with an LspciError", () => {
  const source = LISTINGS.map(({ text }) => text).join("\n");
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(source.length), fc.nat(400), fc.string({ maxLength: 8 })), { maxLength: 12 }),
      (cuts) => {
        const text = cuts.map(([at, length, noise]) => noise + source.slice(at, at + length)).join("");
        try {
          for (const { bars, capabilities } of parseLspci(text).functions) {
            assert.ok(bars.every(({ index }) => index === "rom" || (index >= 0 && index <= 5)));
            assert.ok(capabilities.every(({ offset }) => offset >= 0x40 && offset < 0x1000));
          }
        } catch (error) {
          if (!(error instanceof LspciError)) throw error;
        }
      },
    ),
    { numRuns: 400 },
  );
});
