// Explores with a bug in the code. Arguments: the bug's name, seconds, and whether the way to it is told, `long` or `short`.
// Exit status: 0 found, 1 not found.
import { BUGS } from "./bugs.js";
import { explorePatched } from "./explore_patched.js";

const [name, seconds, length] = process.argv.slice(2);
const bug = BUGS.find((each) => each.name === name);
if (bug === undefined) throw new Error(`no bug ${name}`);
const { status, output } = explorePatched(bug, Number(seconds));
const isFound = status === 1 && new RegExp(`^ {2}!! .*${bug.finding}`, "m").test(output);
const brief = output.split("\n").find((line) => line.includes("BROKEN"));
console.log(
  `--bug ${bug.name}: ${bug.what}\n${isFound && length === "short" ? brief : output.trimEnd()}\n${isFound ? "found" : "NOT FOUND"}`,
);
process.exitCode = isFound ? 0 : 1;
