import { join } from "node:path";
import { UsageError } from "../failure.js";

/**
 * What is said on a server's control socket, a line of JSON each. To a request come any number of progress lines, then
 * one result or one error.
 */
export type ControlRequest =
  | { command: "status" }
  /** Assignments as they are typed, `NAME=GPU,...`: each is added, replaces the one of its name, or with no GPUs ends it. */
  | { command: "assign"; assign: string[] }
  /** Ends an assignment; with a machine, only when the server serves that one. */
  | { command: "release"; name: string; machine?: string };

/** One that changes assignments. */
export type ChangeRequest = Exclude<ControlRequest, { command: "status" }>;

export type ControlReply = { progress: string } | { result: unknown } | { error: string };

/** The longest request, in bytes. */
export const MAX_REQUEST = 64 * 1024;
/** The longest reply: that of a status with every function of a large machine takes a few dozen KiB. */
export const MAX_REPLY = 16 << 20;

const MAX_ASSIGNMENTS = 256;

/** The control socket of a socket directory. */
export function controlPath(socketDir: string): string {
  return join(socketDir, "control.sock");
}

/**
 * Reads a request.
 * @throws UsageError for what is none
 */
export function readRequest(line: string): ControlRequest {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new UsageError("a request is one line of JSON");
  }
  if (typeof value === "object" && value !== null) {
    const { command, assign, name, machine } = value as Record<string, unknown>;
    if (command === "status") return { command };
    if (command === "assign" && isTexts(assign)) return { command, assign };
    if (command === "release" && typeof name === "string") {
      if (machine === undefined) return { command, name };
      if (typeof machine === "string") return { command, name, machine };
    }
  }
  throw new UsageError("a request is status, assign with texts, or release with a name");
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.length <= MAX_ASSIGNMENTS && value.every((item) => typeof item === "string");
}

/**
 * The lines of a stream. What follows the last newline is no line.
 * @throws UsageError when a line is longer than `limit` bytes
 */
export async function* linesOf(stream: AsyncIterable<Buffer>, limit: number): AsyncGenerator<string> {
  let pieces: Buffer[] = [];
  let length = 0;
  for await (const chunk of stream) {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      yield Buffer.concat([...pieces, chunk.subarray(start, end)]).toString("utf8");
      pieces = [];
      length = 0;
      start = end + 1;
    }
    pieces.push(chunk.subarray(start));
    length += chunk.length - start;
    if (length > limit) throw new UsageError(`a line is longer than ${limit} bytes`);
  }
}
