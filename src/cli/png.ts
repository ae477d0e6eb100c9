import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { errnoOf } from "../host/error.js";
import { during } from "./during.js";
import { UsageError } from "./failure.js";

const LIMIT_MS = 60_000;
const LIMIT_BYTES = 256 << 20;
const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);

/** A program that turns SVG into PNG. */
interface Converter {
  program: string;
  /** It reads the SVG on its standard input and writes the PNG to its standard output. */
  pipe?: readonly string[];
  /** It reads one file and writes another. */
  files?: (svg: string, png: string, size: string) => readonly string[];
}

const chromium = (program: string): Converter => ({
  program,
  files: (svg, png, size) => [
    "--headless",
    // Chromium refuses to run as root with its sandbox; what it opens is a picture of ours, without scripts.
    ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []),
    // Not that of whoever runs it, who may have no home, or a browser open.
    `--user-data-dir=${join(dirname(png), "profile")}`,
    "--disable-gpu",
    "--hide-scrollbars",
    `--window-size=${size}`,
    `--screenshot=${png}`,
    `file://${svg}`,
  ],
});

/** By how well they do it. */
const CONVERTERS: readonly Converter[] = [
  { program: "rsvg-convert", pipe: ["--format=png"] },
  { program: "inkscape", pipe: ["--pipe", "--export-type=png", "--export-filename=-"] },
  chromium("chromium"),
  chromium("chromium-browser"),
  chromium("google-chrome"),
  { program: "magick", pipe: ["svg:-", "png:-"] },
  { program: "convert", pipe: ["svg:-", "png:-"] },
];

/**
 * A picture as PNG, made by whichever program this system has.
 * @throws UsageError when it has none, or those it has fail
 */
export function toPng(svg: string, size: { width: number; height: number }): Buffer {
  const failed: string[] = [];
  for (const converter of CONVERTERS) {
    const result = during(`drawing with ${converter.program}`, () =>
      converter.pipe === undefined ? throughFiles(converter, svg, size) : throughPipe(converter, svg),
    );
    if (result instanceof Buffer) return result;
    if (result !== undefined) failed.push(`${converter.program} ${result}`);
  }
  const what = failed.length === 0 ? "needs a program that draws SVG" : `could not be made: ${failed.join("; ")}`;
  throw new UsageError(
    `--format png ${what}; install rsvg-convert (Debian: librsvg2-bin), Inkscape, Chromium or ImageMagick, or take --format svg`,
  );
}

/** The PNG; undefined where the program is not there, else why there is none. */
type Outcome = Buffer | string | undefined;

function throughPipe({ program, pipe = [] }: Converter, svg: string): Outcome {
  const ran = spawnSync(program, pipe, { input: svg, timeout: LIMIT_MS, maxBuffer: LIMIT_BYTES });
  if (absent(ran)) return undefined;
  return failureOf(ran) ?? (isPng(ran.stdout) ? ran.stdout : "wrote no PNG");
}

function throughFiles(
  { program, files }: Converter,
  svg: string,
  { width, height }: { width: number; height: number },
): Outcome {
  const folder = mkdtempSync(join(tmpdir(), "linkfence-png-"));
  const [from, to] = [join(folder, "picture.svg"), join(folder, "picture.png")];
  try {
    writeFileSync(from, svg);
    const ran = spawnSync(program, files?.(from, to, `${width},${height}`) ?? [], { timeout: LIMIT_MS, stdio: "pipe" });
    if (absent(ran)) return undefined;
    return failureOf(ran) ?? pngIn(to) ?? "wrote no PNG";
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function absent({ error }: { error?: Error }): boolean {
  return error !== undefined && ["ENOENT", "EACCES"].includes(errnoOf(error));
}

function failureOf(ran: ReturnType<typeof spawnSync>): string | undefined {
  const errno = ran.error === undefined ? undefined : errnoOf(ran.error);
  if (errno === "ETIMEDOUT") return "took too long";
  // It may have ended before it had read everything.
  if (errno !== undefined && errno !== "EPIPE") return "could not be run";
  return ran.status === 0 ? undefined : "failed";
}

function pngIn(path: string): Buffer | undefined {
  try {
    const bytes = readFileSync(path);
    return isPng(bytes) ? bytes : undefined;
  } catch {
    return undefined;
  }
}

function isPng(bytes: Buffer | null): boolean {
  return bytes?.subarray(0, SIGNATURE.length).equals(SIGNATURE) === true;
}
