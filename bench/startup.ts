import { spawnSync } from "node:child_process";
import { join } from "node:path";

const RUNS = 21;
const MAIN = join(import.meta.dirname, "../dist/cli/main.js");

/** Whole processes, start to end, beside `node -e 0` in turn: what linkfence adds to Node's own start. */
export async function run(): Promise<void> {
  console.log("start to finish, beside node -e 0 (limit: 60 ms more)");
  const commands: [string, string[]][] = [
    ["node -e 0", ["-e", "0"]],
    ["linkfence --help", [MAIN, "--help"]],
    ["linkfence plan", [MAIN, "plan", "--machine", "sequoia", "--assign", "a=GPU0,GPU1", "--assign", "b=GPU2"]],
    [
      "linkfence plan --json",
      [MAIN, "plan", "--machine", "sequoia", "--assign", "a=GPU0,GPU1", "--assign", "b=GPU2", "--json"],
    ],
  ];
  const times = commands.map(() => [] as number[]);
  for (let round = 0; round < RUNS; round++) {
    commands.forEach(([, args], i) => {
      const start = process.hrtime.bigint();
      spawnSync(process.execPath, args, { stdio: "ignore" });
      times[i]?.push(Number(process.hrtime.bigint() - start) / 1e6);
    });
  }
  const medians = times.map((all) => all.sort((a, b) => a - b)[RUNS >> 1] ?? 0);
  const [bare = 0] = medians;
  commands.forEach(([name], i) => {
    const median = medians[i] ?? 0;
    console.log(
      `  ${name.padEnd(22)} ${median.toFixed(1)} ms${i === 0 ? "" : `  (+${(median - bare).toFixed(1)} ms)`}`,
    );
  });
}
