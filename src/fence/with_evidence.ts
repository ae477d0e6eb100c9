import { isCutHere, linkState } from "../machine/link_state.js";
import type { Gpu, Link, Machine } from "../machine/machine.js";
import type { GpuFenceResult } from "./carry_out_plan.js";
import { strategyFor } from "./strategy.js";

/**
 * The machine as it is after the plan: at each link the registers that prove its state, and the state they prove. A GPU
 * whose registers could not be read afterwards loses what was known of it before; one that was not touched keeps it.
 */
export function withEvidence(machine: Machine, results: readonly GpuFenceResult[]): Machine {
  const resultOf = new Map(results.map((result) => [result.address, result]));
  const gpus = machine.gpus.map((gpu) => {
    const result = resultOf.get(gpu.address);
    return result?.touched ? { ...gpu, links: gpu.links.map((link) => linkAfter(gpu, link, result)) } : gpu;
  });
  const cutEnds = new Set(
    gpus.flatMap((gpu) =>
      gpu.links.filter((link) => isCutHere(gpu.part, link)).map((link) => `${gpu.address} ${link.number}`),
    ),
  );
  return {
    ...machine,
    gpus: gpus.map((gpu) => ({ ...gpu, links: gpu.links.map((link) => downIfCut(link, cutEnds)) })),
  };
}

function linkAfter(gpu: Gpu, link: Link, result: GpuFenceResult): Link {
  const { evidence: _, ...bare } = link;
  const after: Link = { ...bare, state: stateSeen(link, result) };
  if (result.evidence !== null) {
    const offsets = new Set(strategyFor(gpu.part)?.evidenceOffsets(link.number));
    const registers = result.evidence.registers.filter((register) => offsets.has(register.offset));
    after.evidence = { ...result.evidence, registers };
  }
  return { ...after, state: linkState(gpu, after) };
}

/** What the device says of the link; what was said before a reset says nothing any more. */
function stateSeen(link: Link, { after, reset }: GpuFenceResult): Link["state"] {
  if (after.linksUp !== null) return after.linksUp.includes(link.number) ? "up" : "down";
  return reset ? "unknown" : link.state;
}

/** A link whose far end is proven cut is not up, whatever was said of it before. */
function downIfCut(link: Link, cutEnds: ReadonlySet<string>): Link {
  if (link.state === "cut" || link.far.kind !== "gpu" || link.far.link === undefined) return link;
  return cutEnds.has(`${link.far.gpu} ${link.far.link}`) ? { ...link, state: "down" } : link;
}
