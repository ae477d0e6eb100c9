/** Takes the cursor to the beginning of its line, and what is there away (ECMA-48 EL). */
const CLEAR = "\r\u001b[K";

/**
 * Does what may take a while, and says so meanwhile: on standard error, in one line that goes away afterwards, and only on a
 * terminal that can take a line away.
 */
export function during<Result>(what: string, work: () => Result): Result {
  if (process.stderr.isTTY !== true || process.env.TERM === "dumb") return work();
  process.stderr.write(`${CLEAR}${what} ...`);
  try {
    return work();
  } finally {
    process.stderr.write(CLEAR);
  }
}
