import type { Machine } from "../machine/machine.js";
import { COMPLETION_REDIRECT, EGRESS_CONTROL, ISOLATION, REQUEST_REDIRECT } from "../pci/acs.js";
import { isAddress, parseAddress, splitAddress } from "../pci/address.js";
import type { PciFunction } from "../pci/function.js";
import { Hierarchy } from "../pci/hierarchy.js";
import { kernelParameters } from "./kernel_parameters.js";

/** A kernel parameter that makes groups look more isolated than the hardware is, or the hardware less. */
export interface AcsOverride {
  /** As it stands on the command line. */
  parameter: string;
  /** The GPUs whose path it weakens. */
  gpus: string[];
  /** Functions on these paths that it concerns. */
  functions: string[];
  reason: string;
}

/** The kernel parameters that can be overrides, or carry one among other things. */
const OVERRIDING = new Set(["pcie_acs_override", "pci"]);

/** What `disable_acs_redir` clears. */
const REDIRECT = REQUEST_REDIRECT | COMPLETION_REDIRECT | EGRESS_CONTROL;

/**
 * Overrides on the kernel's command line that weaken the path of some GPU: `pcie_acs_override` (the out-of-tree patch
 * that makes the kernel believe in ACS where there is none), `pci=disable_acs_redir=` and `pci=config_acs=`.
 */
export function acsOverrides(machine: Machine): AcsOverride[] {
  const parameters = kernelParameters(machine.kernel?.commandLine ?? "").filter(({ name }) => OVERRIDING.has(name));
  if (parameters.length === 0) return [];
  const hierarchy = new Hierarchy(machine.functions);
  const gpus = new Map(machine.gpus.map((gpu) => [gpu.address, gpu.name]));
  const paths = machine.functions.flatMap((fn) => {
    const gpu = gpus.get(fn.address);
    return gpu === undefined ? [] : [{ gpu, path: [fn, ...hierarchy.path(fn.address)] }];
  });
  const overrides: AcsOverride[] = [];
  const add = (parameter: string, reason: string, concerns: (fn: PciFunction) => boolean) => {
    const hit = paths.filter(({ path }) => path.some(concerns));
    if (hit.length === 0) return;
    const functions = [...new Set(hit.flatMap(({ path }) => path.filter(concerns).map((fn) => fn.address)))];
    overrides.push({ parameter, gpus: hit.map(({ gpu }) => gpu), functions, reason });
  };
  for (const { name, value } of parameters) {
    if (name === "pcie_acs_override") {
      const reason = "the kernel was told to believe in ACS that the hardware does not have";
      add(`${name}=${value ?? ""}`, reason, (fn) => lacksAcs(fn) && overrideNames(value ?? "", fn));
    }
    if (name !== "pci") continue;
    for (const option of (value ?? "").split(",")) {
      if (option.startsWith("disable_acs_redir=")) {
        const patterns = option.slice("disable_acs_redir=".length).split(";");
        const reason = `ACS redirection (0x${REDIRECT.toString(16)}) is switched off, so peers reach each other past the IOMMU`;
        add(`pci=${option}`, reason, (fn) => patterns.some((pattern) => matches(pattern, fn, hierarchy)));
      }
      if (option.startsWith("config_acs=")) {
        const weakening = configAcsEntries(option.slice("config_acs=".length)).filter(({ off }) => off & ISOLATION);
        const reason = "it switches off ACS bits that isolation needs";
        add(`pci=${option}`, reason, (fn) => weakening.some(({ pattern }) => matches(pattern, fn, hierarchy)));
      }
    }
  }
  return overrides;
}

function lacksAcs(fn: PciFunction): boolean {
  return fn.acs === undefined || (fn.acs.enabled & ISOLATION & fn.acs.supported) !== (ISOLATION & fn.acs.supported);
}

/** Whether `downstream`, `multifunction` or `id:VVVV:DDDD` of `pcie_acs_override` speaks of this function. */
function overrideNames(value: string, fn: PciFunction): boolean {
  return value.split(",").some((word) => {
    if (word === "downstream") return fn.express?.type === "downstream-port" || fn.express?.type === "root-port";
    if (word === "multifunction") return fn.multifunction === true || splitAddress(fn.address).function > 0;
    const match = /^id:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/i.exec(word);
    return match !== null && idIs(fn.vendorId, match[1]) && idIs(fn.deviceId, match[2]);
  });
}

/** Entries `FLAGS@DEVICE` of `config_acs`, with the bits each switches off; flags hold until the next ones. */
function configAcsEntries(value: string): { pattern: string; off: number }[] {
  let off = 0;
  return value.split(";").map((entry) => {
    const at = entry.indexOf("@");
    if (at >= 0) {
      off = 0;
      // The last character is bit 0.
      [...entry.slice(0, at)].reverse().forEach((flag, bit) => {
        if (flag === "0") off |= 1 << bit;
      });
    }
    return { pattern: entry.slice(at + 1), off };
  });
}

/** Whether a device pattern of `pci=` means this function: a path, or `pci:VENDOR:DEVICE[:SUBVENDOR:SUBDEVICE]`. */
function matches(pattern: string, fn: PciFunction, hierarchy: Hierarchy): boolean {
  if (pattern.startsWith("pci:")) {
    const [, vendor, device, subvendor, subdevice] = pattern.split(":");
    return (
      idIs(fn.vendorId, vendor, true) &&
      idIs(fn.deviceId, device, true) &&
      idIs(fn.subsystemVendorId, subvendor ?? "0", true) &&
      idIs(fn.subsystemId, subdevice ?? "0", true)
    );
  }
  const steps = pattern.split("/");
  let at: PciFunction | null | undefined = fn;
  for (const step of steps.slice(1).reverse()) {
    if (!at?.address.endsWith(`:${step.padStart(4, "0")}`)) return false;
    at = hierarchy.parent(at.address);
  }
  const [first = ""] = steps;
  return at !== null && at !== undefined && isAddress(first) && parseAddress(first) === at.address;
}

/** Whether an id is the hexadecimal text; with `wild`, 0 and an absent text stand for any. */
function idIs(id: number | undefined, text: string | undefined, wild = false): boolean {
  const wanted = Number.parseInt(text ?? "", 16);
  if (wild && (wanted === 0 || Number.isNaN(wanted))) return true;
  return id === wanted;
}
