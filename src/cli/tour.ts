import { parseAssignments } from "../isolation/assignment.js";
import { makePlan } from "../isolation/plan.js";
import { builtinMachine } from "../machine/builtin.js";
import { fenceVirtual, resultLines } from "./command/fence.js";
import { EXIT_FINDING } from "./failure.js";
import { paint, writeLines } from "./output.js";
import { progressLine } from "./progress_line.js";
import { matrixLines } from "./topology_matrix.js";

/** `npm start`: two tenants on the built-in virtual AC922, before, during and after the fence. */
export async function runTour(): Promise<number> {
  const machine = builtinMachine("sequoia");
  const assignments = parseAssignments(machine, ["tenant1=GPU0,GPU1", "tenant2=GPU2"]);
  const plan = makePlan(machine, assignments);
  writeLines([
    paint("bold", "linkfence on a virtual IBM AC922 (Sequoia): six V100s, three to a socket, all joined by NVLink2"),
    "",
    "Before: every GPU reaches the memory of its two neighbours, whoever they belong to.",
    ...matrixOnly(matrixLines(machine)),
    "",
    "GPU0 and GPU1 go to tenant1, GPU2 to tenant2. Fencing:",
  ]);
  const { result, after } = await fenceVirtual(machine, plan, (event) => writeLines([`  ${progressLine(event)}`]));
  const cut = plan.crossLinks.map(
    ({ gpu, link, far, farLink }) => `${name(gpu)}:${link}-${name(far ?? "")}:${farLink}`,
  );
  writeLines([
    "",
    "After: tenant1 keeps its NVLinks, nothing leads to tenant2, the host's GPUs are as they were.",
    ...matrixOnly(matrixLines(after)),
    "",
    `${cut.length} links cut at both ends: ${cut.join(" ")}`,
    "",
    ...resultLines(result),
    "",
    "Next:",
    "  npx linkfence audit --live                 what NVLink lets across on this host (reads only)",
    "  npx linkfence plan --machine sequoia --assign vm1=GPU0 --assign vm2=GPU1,GPU2",
    "  npx linkfence audit --machine c4140        four V100s that IOMMU groups call separate",
    "  npx linkfence --help",
  ]);
  return result.verified ? 0 : EXIT_FINDING;

  function name(address: string): string {
    return machine.gpus.find((gpu) => gpu.address === address)?.name ?? address;
  }
}

/** The matrix without its legend. */
function matrixOnly(lines: readonly string[]): string[] {
  return lines.slice(0, lines.indexOf(""));
}
