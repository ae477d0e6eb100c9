import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { missing } from "./device_tree_sample.js";
import { PROJECT as root } from "./project_folder.js";

const readme = readFileSync(join(root, "README.md"), "utf8");

/** The lines of all shell blocks, in order. */
function commandsOf(file: string): string[] {
  const text = readFileSync(join(root, file), "utf8");
  return [...text.matchAll(/^```sh\n(.*?)^```/gms)].flatMap(([, block]) => (block ?? "").trim().split("\n"));
}

/** One that nobody listens on at this moment. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** What runs elsewhere: this very run, and `.ci/run` in a fresh clone. */
const ELSEWHERE = ["npm start", "npm test"];

/** A server that a command of the README starts, for the commands after it. */
class Background {
  #server: ChildProcess | undefined;

  /** Starts it and waits until it serves; whatever ran before is ended first. */
  async start(line: string, options: { cwd: string; env: NodeJS.ProcessEnv }): Promise<void> {
    await this.end();
    const server = spawn("sh", ["-c", `exec ${line}`], { ...options, stdio: ["ignore", "pipe", "pipe"] });
    this.#server = server;
    let output = "";
    server.stderr?.on("data", (data) => {
      output += data;
    });
    const ready = new Promise<void>((resolve) => {
      server.stdout?.on("data", (data) => {
        output += data;
        if (output.includes("fenced, serving")) resolve();
      });
    });
    await Promise.race([ready, once(server, "exit").then(() => assert.fail(`it ended: ${output}`))]);
  }

  /** Ends it as Ctrl-C does. */
  async end(): Promise<void> {
    if (this.#server === undefined || this.#server.exitCode !== null) return;
    const exit = once(this.#server, "exit");
    this.#server.kill("SIGINT");
    this.#server = undefined;
    assert.equal((await exit)[0], 0);
  }
}

for (const [file, count] of [
  ["README.md", 8],
  ["docs/page.md", 5],
] as const) {
  test(`every command that ${file} shows runs`, async (t) => {
    const commands = commandsOf(file);
    assert.ok(commands.length > count);
    const folder = mkdtempSync(join(tmpdir(), "linkfence-readme-"));
    const env = { ...process.env, RUNTIME_DIRECTORY: join(folder, "run"), STATE_DIRECTORY: join(folder, "state") };
    const background = new Background();
    // Somebody else may be using the one that people read of.
    const port = await freePort();
    try {
      for (const command of commands) {
        if (ELSEWHERE.includes(command)) continue;
        const needed = ["lspci", "curl"].find((program) => command.startsWith(program));
        const skip = needed === undefined ? false : missing(needed);
        const line = command
          .replaceAll("npx linkfence", `"${process.execPath}" "${join(root, "dist/cli/main.js")}"`)
          .replaceAll("127.0.0.1:8080", `127.0.0.1:${port}`);
        if (command.startsWith("npx linkfence serve")) {
          await t.test(command, () => background.start(line, { cwd: folder, env }));
          continue;
        }
        await t.test(command, { skip }, () => {
          const { status, stderr } = spawnSync("sh", ["-c", line], { cwd: folder, env, encoding: "utf8" });
          // lspci lists nothing where there is no PCI, which is bad input.
          const fine = needed === "lspci" ? [0, 1, 2] : needed === "curl" ? [0] : [0, 1];
          assert.ok(fine.includes(status ?? -1), `exit ${status}: ${stderr}`);
          assert.doesNotMatch(stderr, /internal error|^\s+at /m);
        });
      }
    } finally {
      await background.end();
      rmSync(folder, { recursive: true });
    }
  });
}

test("every file that the README and the architecture page name is there", () => {
  const architecture = readFileSync(join(root, "docs/architecture.md"), "utf8");
  const links = [...readme.matchAll(/\]\(([^)#:]+)(?:#[\w-]+)?\)/g)].map(([, target]) => target ?? "");
  const rooms = [...architecture.matchAll(/`((?:src|scripts|test)\/[\w./-]+)`/g)].map(([, target]) => target ?? "");
  const files = [...architecture.matchAll(/`((?:cli|isolation|machine|fence|virtual)\/\w+\.ts)`/g)].map(
    ([, target]) => `src/${target}`,
  );
  assert.ok(links.length > 0 && rooms.length > 5 && files.length > 5);
  for (const target of [...links, ...rooms, ...files]) assert.ok(existsSync(join(root, target)), target);
});
