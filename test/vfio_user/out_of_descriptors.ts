/**
 * Run with a low limit of open files: uses up all descriptors, connects with the last one, and prints what the server
 * reports and then, with descriptors free again, what it answers.
 */
import { closeSync, openSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Command, startServer } from "../../src/vfio-user/index.js";
import { RawClient } from "./raw_client.js";

const [path = ""] = process.argv.slice(2);
const errors: string[] = [];
const server = await startServer({
  module: new URL("./test_device.js", import.meta.url),
  data: [path],
  onEvent: (event) => event.kind === "error" && errors.push(event.message.split("\n")[0] ?? ""),
});
// Loads what a client needs, while it can still be loaded.
new RawClient(path).close();
await sleep(50);
const fillers: number[] = [];
try {
  for (;;) fillers.push(openSync("/dev/null", "r"));
} catch {
  closeSync(fillers.pop() ?? -1);
}
const client = new RawClient(path, false);
for (const end = Date.now() + 20_000; errors.length === 0 && Date.now() < end; ) await sleep(10);
for (const filler of fillers) closeSync(filler);
const reply = client.request(Command.VERSION, new Uint8Array(4));
console.log(JSON.stringify({ errors, answer: reply?.error }));
client.close();
await server.stop();
