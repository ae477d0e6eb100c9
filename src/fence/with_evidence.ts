import { isCutHere, linkState } from "../machine/link_state.js";
import type { Gpu, Link, Machine } from "../machine/machine.js";
import { partFacts } from "../machine/part.js";
import type { GpuFenceResult } from "./carry_out_plan.js";
import { strategyFor } from "./strategy.js";

/** What a fence tells of a GPU as it is now. */
export type GpuSeen = Pick<GpuFenceResult, "address" | "after" | "evidence" | "touched" | "reset">;

/**
 * The machine as it is after the plan: at each link the registers that prove its state, and the state they prove. A GPU
 * whose registers could not be read afterwards loses what was known of it before; one that was not touched keeps it. Links
 * of a part that the machine does not list are added, for their registers were read all the same.
 */
export function withEvidence(machine: Machine, results: readonly GpuSeen[]): Machine {
  const resultOf = new Map(results.map((result) => [result.address, result]));
  const gpus = machine.gpus.map((gpu) => {
    const result = resultOf.get(gpu.address);
    if (result === undefined || !result.touched) return gpu;
    const links = gpu.nvlink === "none" ? gpu.links : [...gpu.links, ...unlisted(gpu)];
    return { ...gpu, links: links.map((link) => linkAfter(gpu, link, result)) };
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

function unlisted({ part, links }: Gpu): Link[] {
  const listed = new Set(links.map((link) => link.number));
  return Array.from({ length: partFacts(part)?.links ?? 0 }, (_, number): Link => {
    return { number, far: { kind: "unknown" }, state: "unknown", origin: "register" };
  }).filter((link) => !listed.has(link.number));
}

function linkAfter(gpu: Gpu, link: Link, result: GpuSeen): Link {
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
function stateSeen(link: Link, { after, reset }: GpuSeen): Link["state"] {
  if (after.linksUp !== null) return after.linksUp.includes(link.number) ? "up" : "down";
  return reset ? "unknown" : link.state;
}

/** A link whose far end is proven cut is not up, whatever was said of it before. */
function downIfCut(link: Link, cutEnds: ReadonlySet<string>): Link {
  if (link.state === "cut" || link.far.kind !== "gpu" || link.far.link === undefined) return link;
  return cutEnds.has(`${link.far.gpu} ${link.far.link}`) ? { ...link, state: "down" } : link;
}
