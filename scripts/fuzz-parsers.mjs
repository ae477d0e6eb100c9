// Fuzzes every parser: npm run fuzz:parsers -- [--target NAME]... [--seed N] [--seconds S] [--runs N]
// What was found again: npm run fuzz:parsers -- --target NAME --input FILE
// With --write-corpus the inputs that were kept replace those in test/fuzz/corpus, as few and as short as will do.
// Exit status: 0 nothing found, 1 something found, 2 bad arguments.
import { spawn } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { root } from "./setup.mjs";

/** Parsers, and those with a planted fault that the fuzzer itself is checked by. */
export const PARSERS = ["device-tree", "lspci", "nvidia-smi", "capture", "ledger", "vfio-user", "vfio-user-stream"];
const PLANTED = ["planted-crash", "planted-hang", "planted-quadratic", "planted-memory"];
/** Milliseconds that one input may take, and that it may take to get to the first. */
const PATIENCE = 10_000;
const START = 60_000;
/** Milliseconds to look for a shorter input that hangs or kills too. */
const SHORTENING = 60_000;
const MIB_OF_HEAP = 1024;
/** Before each input in the file that notes it: a sequence number, 8 bytes, and its length. */
const NOTE = 12;

/** Runs fuzz.ts with an order. Resolves to what it found, in a word, or undefined. */
function run(order, patience, stdio) {
  const script = join(root, "test/fuzz/parsers/fuzz.ts");
  const options = [`--max-old-space-size=${MIB_OF_HEAP}`, "--import", "tsx"];
  const child = spawn(process.execPath, [...options, script, JSON.stringify(order)], { cwd: root, stdio });
  let last = "";
  let changed = Date.now();
  let hangs = false;
  const watchdog = setInterval(() => {
    const now = noted(order.directory)?.number ?? "";
    if (now !== last) changed = Date.now();
    last = now;
    hangs ||= Date.now() - changed > (now === "" ? START : patience);
    if (hangs) child.kill("SIGKILL");
  }, 100);
  return new Promise((resolve) => {
    child.on("exit", (status, signal) => {
      clearInterval(watchdog);
      if (hangs) resolve("hang");
      else if (signal !== null || status > 1) resolve(`death by ${signal ?? `exit status ${status}`}`);
      else resolve(status === 1 ? "finding" : undefined);
    });
  });
}

/** The input under way, and which one it is. */
function noted(directory) {
  const path = join(directory, "note");
  const note = existsSync(path) ? readFileSync(path) : Buffer.alloc(0);
  if (note.length < NOTE) return undefined;
  return { number: note.toString("latin1", 0, 8), input: note.subarray(NOTE, NOTE + note.readUInt32LE(8)) };
}

/** An input that hangs or kills cannot be made shorter by the process it does this to. */
async function shorten(target, kind, input, patience) {
  const end = Date.now() + SHORTENING;
  let shortest = input;
  for (let length = input.length >>> 1; length >= 1; length >>>= 1) {
    for (let at = 0; at < shortest.length && Date.now() < end; ) {
      const shorter = Buffer.concat([shortest.subarray(0, at), shortest.subarray(at + length)]);
      const found = await withFolder(async (directory) => {
        writeFileSync(join(directory, "shorter"), shorter);
        return run({ target, directory, inputs: [join(directory, "shorter")] }, patience, "ignore");
      });
      if (found === kind) shortest = shorter;
      else at += length;
    }
  }
  return shortest;
}

async function withFolder(use) {
  const directory = mkdtempSync(join(tmpdir(), "linkfence-fuzz-run-"));
  try {
    return await use(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/**
 * Fuzzes a target. Resolves to whether nothing was found; what was found is saved and said.
 * @param patience milliseconds that an input may take
 */
export async function fuzz(order, patience = PATIENCE) {
  return withFolder(async (directory) => {
    const found = await run({ ...order, directory }, patience, "inherit");
    if (found === undefined) return true;
    const { target } = order;
    console.error(`${target}: ${found}`);
    const first = join(directory, "found0");
    if (!existsSync(first)) {
      const input = noted(directory)?.input;
      if (input === undefined) return false;
      writeFileSync(first, order.inputs === undefined ? await shorten(target, found, input, patience) : input);
    }
    if (order.inputs !== undefined) return false;
    const saved = save(target, directory);
    console.error(`input: ${saved.join(" and ")}`);
    console.error(
      `again: npm run fuzz:parsers -- --target ${target} ${saved.map((file) => `--input ${file}`).join(" ")}`,
    );
    return false;
  });
}

/** Keeps what was found where it stays. */
function save(target, directory) {
  const folder = join(tmpdir(), "linkfence-fuzz-findings");
  mkdirSync(folder, { recursive: true });
  const stamp = new Date().toISOString().replace(/\D/g, "").slice(0, 17);
  return [0, 1].flatMap((index) => {
    const from = join(directory, `found${index}`);
    const to = join(folder, `${target}-${stamp}-${index}`);
    if (!existsSync(from)) return [];
    copyFileSync(from, to);
    return [to];
  });
}

/** The orders that the command line gives, one for each target. */
function ordersOf(args) {
  const text = { type: "string" };
  const many = { type: "string", multiple: true };
  const options = {
    target: many,
    seed: text,
    seconds: text,
    runs: text,
    input: many,
    "write-corpus": { type: "boolean" },
  };
  const { values } = parseArgs({ args, options });
  const targets = values.target ?? PARSERS;
  const strange = targets.find((name) => ![...PARSERS, ...PLANTED].includes(name));
  if (strange !== undefined) throw new Error(`no target ${strange}; there are ${PARSERS.join(", ")}`);
  const number = (name, otherwise, most) => {
    const value = values[name] ?? `${otherwise}`;
    if (!/^\d+$/.test(value) || Number(value) > most) throw new Error(`--${name} ${value}: no number up to ${most}`);
    return Number(value);
  };
  const seed = number("seed", Date.now() % 2 ** 31, 2 ** 32 - 1);
  const runs = number("runs", Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
  const seconds = number("seconds", values.runs === undefined ? 60 : 10 ** 9, 10 ** 9) / targets.length;
  const { input: inputs } = values;
  if (inputs !== undefined && targets.length !== 1) throw new Error("--input needs the one --target it is of");
  if (inputs !== undefined && inputs.length > 2) throw new Error("--input takes one file, or a small and a large one");
  const missing = inputs?.find((file) => !existsSync(file));
  if (missing !== undefined) throw new Error(`--input ${missing}: there is no such file`);
  return targets.map((target) => ({ target, seed, seconds, runs, keep: values["write-corpus"] === true, inputs }));
}

async function main() {
  let orders;
  try {
    orders = ordersOf(process.argv.slice(2));
  } catch (error) {
    console.error(`fuzz:parsers: ${error.message.split("\n", 1)[0]}`);
    return 2;
  }
  if (orders[0]?.inputs === undefined) console.log(`seed ${orders[0]?.seed}`);
  let fine = true;
  for (const order of orders) fine = (await fuzz(order)) && fine;
  return fine ? 0 : 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = await main();
