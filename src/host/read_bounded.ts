import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { errnoInWords, errnoOf, HostError } from "./error.js";
import { printable } from "./printable.js";

const CHUNK = 1 << 16;
const RETRY_MS = 5;

/**
 * Reads a file, a FIFO or (`-`) standard input that the user named, to its end. Waits for whoever writes a FIFO; an empty
 * file is an empty buffer.
 * @param limit the most bytes the content may have; more is refused from the file's size, or once they have arrived.
 * @throws HostError `EREAD` when it cannot be read (missing, a directory, no permission), `ETOOLARGE` above the limit.
 */
export function readBounded(path: string, limit: number): Buffer {
  const name = path === "-" ? "standard input" : printable(path);
  let file: number;
  try {
    file = path === "-" ? 0 : openSync(path, "r");
  } catch (error) {
    throw unreadable(name, error);
  }
  try {
    return readToEnd(file, name, limit);
  } catch (error) {
    throw error instanceof HostError ? error : unreadable(name, error);
  } finally {
    if (file !== 0) closeSync(file);
  }
}

function readToEnd(file: number, name: string, limit: number): Buffer {
  const stat = fstatSync(file);
  if (stat.isDirectory()) throw new HostError("EREAD", `cannot read ${name}: is a directory, not a file`, "EISDIR");
  if (stat.isFile() && stat.size > limit) throw tooLarge(name, limit, stat.size);
  const chunks: Buffer[] = [];
  let length = 0;
  for (;;) {
    // One byte more than allowed tells "exactly at the limit" from "above it".
    const chunk = Buffer.allocUnsafe(Math.min(CHUNK, limit + 1 - length));
    const count = readWaiting(file, chunk);
    if (count === 0) return Buffer.concat(chunks, length);
    length += count;
    if (length > limit) throw tooLarge(name, limit);
    chunks.push(chunk.subarray(0, count));
  }
}

/** Standard input may be non-blocking when another process shares it; then a read with nothing there yet is an error. */
function readWaiting(file: number, chunk: Buffer): number {
  for (;;) {
    try {
      return readSync(file, chunk, 0, chunk.length, null);
    } catch (error) {
      if (errnoOf(error) !== "EAGAIN") throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
    }
  }
}

function unreadable(name: string, error: unknown): HostError {
  const errno = errnoOf(error);
  return new HostError("EREAD", `cannot read ${name}: ${errnoInWords(errno)}`, errno);
}

function tooLarge(name: string, limit: number, size?: number): HostError {
  const has = size === undefined ? "has more than" : `has ${size} bytes, more than the`;
  return new HostError("ETOOLARGE", `${name} is too large: it ${has} ${limit} bytes allowed here`);
}
