// Runs the README's commands for a live host, in order, as somebody would who reads it.
// Environment: GPUS, the addresses in order; NVLINK, what nvidia-smi says of the links; README, the commands.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { check, status } from "/linkfence/guest/report.mjs";

const [A, B, C] = JSON.parse(process.env.GPUS);

/** Runs a line as a shell would; what runs until it is interrupted is, once it says what it is there to say. */
async function runLine(line) {
  const endless = / (serve|watch) /.test(line);
  const child = spawn("sh", ["-c", `exec ${line}`], { stdio: ["ignore", "pipe", "pipe"], cwd: "/tmp" });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (data) => {
      output += data;
    });
  }
  const ended = new Promise((resolve) => child.once("close", resolve));
  if (!endless) return { status: await ended, output };
  const said = / serve /.test(line) ? /^Ctrl-C ends it/m : /closed/;
  for (let tries = 0; !said.test(output); tries++) {
    if (child.exitCode !== null || tries > 1200) throw new Error(`${line}: ${output}`);
    await sleep(100);
  }
  const end = async () => {
    child.kill("SIGINT");
    return { status: await ended, output };
  };
  return { end, output };
}

await check("the README's commands for a live host", async () => {
  writeFileSync("/tmp/told", JSON.parse(process.env.NVLINK));
  writeFileSync("/bin/nvidia-smi", "#!/bin/sh\ncat /tmp/told\n", { mode: 0o755 });
  writeFileSync("/bin/linkfence", '#!/bin/sh\nexec node /linkfence/dist/cli/main.js "$@"\n', { mode: 0o755 });
  const here = { "0000:1a:00.0": A, "0000:1c:00.0": B, "0000:1d:00.0": C, GPU0: A, GPU1: B, GPU2: C };
  let serving;
  const ran = [];
  for (const line of JSON.parse(process.env.README)) {
    const command = Object.entries(here).reduce((text, [there, address]) => text.replaceAll(there, address), line);
    const { status, end, output } = await runLine(command.replace(/^npx /, ""));
    if (/ serve /.test(line)) serving = end;
    else if (end !== undefined) assert.equal((await end()).status, 0, output);
    else assert.ok(status === 0 || (/ audit /.test(line) && status === 1), `${command}: ${status}: ${output}`);
    // Where it is looked at, it is ended next.
    if (/ status/.test(line)) assert.equal((await serving()).status, 0);
    console.log(line);
    ran.push(line);
  }
  assert.ok(ran.length >= 12, ran.join("; "));
  return `${ran.length} commands`;
});
process.exit(status());
