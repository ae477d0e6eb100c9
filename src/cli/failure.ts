import { errnoInWords } from "../host/error.js";

/** Exit codes: 0 fine, 1 a finding, 2 bad input or failure. */
export const EXIT_FINDING = 1;
export const EXIT_FAILURE = 2;

/** Bad input on the command line. The message is one line that says what to do. */
export class UsageError extends Error {
  readonly code = "EUSAGE";
  constructor(message: string) {
    super(message);
    this.name = "UsageError";
  }
}

/**
 * The one line for an error. Errors of linkfence and of the operating system carry a code and a message for people; what
 * has none is a defect, and says so.
 */
export function failureLine(error: unknown): string {
  const known = error instanceof Error && "code" in error;
  const message = error instanceof Error ? error.message : String(error);
  const line = message.replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, " ").trim();
  // What a system call has failed with ends in the code alone.
  const words = line.replace(/: (E[A-Z]+)$/, (_, errno: string) => `: ${errnoInWords(errno)}`);
  return known ? words : `internal error: ${line} (set LINKFENCE_DEBUG=1 for the stack, and report it)`;
}
