import type { Finding } from "./findings.js";

/** Kinds of findings in a word or two, for a person. */
export const FINDING_WORDS: Readonly<Record<Finding["kind"], string>> = {
  nvlink: "NVLink",
  nvswitch: "NVSwitch",
  "unknown-far-end": "far end not known",
  "two-owners": "two owners",
  pcie: "PCIe",
  "acs-override": "ACS override",
  disagreement: "sources disagree",
};
