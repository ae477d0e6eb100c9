import type { Readable } from "node:stream";

/** Hands on what a stream brings, line by line; what follows the last newline is dropped. */
export function onLines(stream: Readable, take: (line: string) => void): void {
  let text = "";
  stream.on("data", (data: Buffer) => {
    const lines = (text + data.toString("utf8")).split(/\r*\n/);
    text = lines.pop() ?? "";
    for (const line of lines) take(line);
  });
}
