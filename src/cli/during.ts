/** Takes the cursor to the beginning of its line, and what is there away (ECMA-48 EL). */
const CLEAR = "\r\u001b[K";

/**
 * Does what may take a while, and says so meanwhile: on standard error, in one line that goes away afterwards, and on a
 * terminal only.
 */
export function during<Result>(what: string, work: () => Result): Result {
  if (process.stderr.isTTY !== true) return work();
  const dumb = process.env.TERM === "dumb";
  process.stderr.write(dumb ? `${what} ...\n` : `${CLEAR}${what} ...`);
  try {
    return work();
  } finally {
    if (!dumb) process.stderr.write(CLEAR);
  }
}
