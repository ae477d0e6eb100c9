import { readSync, writeSync } from "node:fs";

/** The line to the harness that `guest/init` opened. */
const LINE = 3;
let failures = 0;

/** Reports a value to the harness. */
export function result(key, value) {
  writeSync(LINE, `RESULT ${key}=${String(value).replaceAll("\n", " ")}\n`);
}

/**
 * Runs one check and reports it under its name: `ok`, with what it returns, or `failed` and why.
 * A check that fails does not keep the others from running.
 */
export async function check(name, run) {
  const start = performance.now();
  try {
    const detail = await run();
    console.log(`${name}: ${((performance.now() - start) / 1000).toFixed(1)} s`);
    result(name, detail === undefined ? "ok" : `ok: ${detail}`);
  } catch (error) {
    failures++;
    console.error(error);
    result(name, `failed: ${error.message}`);
  }
}

/** Waits until the harness lets this go on; has what it answers. */
export function step(name) {
  writeSync(LINE, `STEP ${name}\n`);
  const byte = Buffer.alloc(1);
  let answer = "";
  while (readSync(LINE, byte, 0, 1, null) === 1 && byte[0] !== 10) answer += byte.toString("latin1");
  return answer;
}

/** The exit status that the checks so far deserve. */
export function status() {
  return failures === 0 ? 0 : 1;
}
