import type { Picture, PicturedGpu } from "./picture.js";
import type { Wire, WireState } from "./wires.js";

/** The states of links as every rendering calls them. */
export const STATES: Record<WireState, string> = {
  up: "up",
  "cut-one": "cut at one end",
  "cut-both": "cut at both ends",
  unknown: "not known",
};

/** A link's state, which a plan only means. */
export function stateInWords(state: WireState, { planned }: Pick<Picture, "planned">): string {
  return planned ? `planned: ${STATES[state]}` : STATES[state];
}

/** A GPU in words, for whoever points at it. */
export function gpuTitle({ name, address, part, owner, group }: PicturedGpu): string {
  const words = [name === address ? address : `${name} ${address}`, part];
  if (owner !== undefined) words.push(`owner ${owner}`);
  if (group !== undefined) words.push(`IOMMU group ${group.id}`);
  return words.join(", ");
}

/** Where a wire's ends are, for a page that shows more of it: `GPU0:2 GPU1:0`. */
export function wireData({ ends, state }: Wire, { gpus }: Picture): Record<string, string> {
  const link = ends.map((end) => `${gpus[end.gpu]?.name ?? ""}:${end.link ?? "?"}`).join(" ");
  return { link, state };
}

/** A link in words: its ends, its state and what is wrong with it. */
export function wireTitle({ ends, to, state, assumed, findings }: Wire, picture: Picture): string {
  const { gpus } = picture;
  const named = ends.map(({ gpu, link }) => `link ${link ?? "?"} of ${gpus[gpu]?.name ?? ""}`);
  if (to?.kind === "switch") named.push(`NVSwitch ${to.name}`);
  if (to?.kind === "bridge") named.push(`NPU bridge ${to.address}`);
  if (to?.kind === "unknown") named.push("nobody knows where");
  const notes = [
    ...(assumed ? ["far end assumed"] : []),
    ...(findings.length > 0 ? [`finding ${findings.join(", ")}`] : []),
  ];
  return `${named.join(" to ")}: ${stateInWords(state, picture)}${notes.map((note) => `; ${note}`).join("")}`;
}
