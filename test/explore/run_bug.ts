// Explores with a bug in the code. Arguments: the bug's name or "all", seconds. Exit status: 0 found, 1 not found, 2 no such bug.
import { BUGS } from "./bugs.js";
import { explorePatched } from "./explore_patched.js";

const [name, seconds] = process.argv.slice(2);
const bugs = BUGS.filter((each) => name === "all" || each.name === name);
if (bugs.length === 0) {
  console.error(`explore: no bug ${name}; there are ${BUGS.map((each) => each.name).join(", ")}, and all`);
  process.exit(2);
}
for (const bug of bugs) {
  console.log(`--bug ${bug.name}: ${bug.what}`);
  const { status, output } = explorePatched(bug, Number(seconds));
  const found = status === 1 && new RegExp(`^ {2}!! .*${bug.finding}`, "m").test(output);
  if (!found || bugs.length === 1) console.log(output.trimEnd());
  else console.log(output.split("\n").find((line) => line.includes("BROKEN")));
  console.log(found ? "found" : "NOT FOUND");
  if (!found) process.exitCode = 1;
}
