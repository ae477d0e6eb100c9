import type { Evidence, Gpu, Link, Part } from "./machine.js";
import {
  ga100LinkRegisters,
  isReadable,
  LINK_DISABLE,
  NV_PMC_BOOT_0,
  NV_PMC_ENABLE,
  NV_PMC_ENABLE_NVLINK,
  partFacts,
} from "./part.js";

/**
 * Whether this end of the link is cut, from evidence alone: the registers as they were read back, never the `state`
 * word beside them. Unreadable values, missing registers and parts without a fence strategy prove nothing, and neither
 * do registers that were read beside the `NV_PMC_BOOT_0` of another chip: nothing promises that they mean the same there.
 */
export function isCutHere(part: Part, link: Link): boolean {
  const facts = partFacts(part);
  if (facts === undefined || link.evidence === undefined || link.number >= facts.links) return false;
  if (!isOf(link.evidence, facts.boot0)) return false;
  return facts.interface === "mask" ? maskCuts(link.evidence, link.number) : blockLockCuts(link.evidence, link.number);
}

/** The state to report for this end of a link: `cut` only with evidence for it, and never the reverse of evidence. */
export function linkState(gpu: Gpu, link: Link): Link["state"] {
  if (isCutHere(gpu.part, link)) return "cut";
  return link.state === "cut" ? "unknown" : link.state;
}

/** Whether the evidence can be this chip's: it need not say which chip it is of, but must not say another. */
function isOf({ registers }: Evidence, boot0: number): boolean {
  return registers.every(({ offset, value }) => offset !== NV_PMC_BOOT_0 || value === boot0);
}

function maskCuts(evidence: Evidence, link: number): boolean {
  const enable = read(evidence, NV_PMC_ENABLE);
  const disable = read(evidence, LINK_DISABLE);
  if (enable === undefined || disable === undefined) return false;
  return (enable & NV_PMC_ENABLE_NVLINK) !== 0 && (disable & (1 << (16 + link))) !== 0;
}

function blockLockCuts(evidence: Evidence, link: number): boolean {
  const { block, lock } = ga100LinkRegisters(link);
  return read(evidence, block) === 1 && read(evidence, lock) === 1;
}

/** A register's value, or undefined when it was not read, was read twice with different results, or is unreadable. */
function read(evidence: Evidence, offset: number): number | undefined {
  const values = evidence.registers.filter((register) => register.offset === offset).map((register) => register.value);
  const [value] = values;
  if (value === undefined || !values.every((other) => other === value)) return undefined;
  return isReadable(value) ? value : undefined;
}
