import type { Gpu, Machine } from "../machine/machine.js";
import { COMPLETION_REDIRECT, EGRESS_CONTROL, ISOLATION, REQUEST_REDIRECT } from "../pci/acs.js";
import { isAddress, type PciAddress, parseAddress, splitAddress } from "../pci/address.js";
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
  const paths = new GpuPaths(machine, hierarchy);
  const overrides: AcsOverride[] = [];
  const add = (parameter: string, reason: string, concerns: (fn: PciFunction) => boolean) => {
    const functions = paths.functions.filter(concerns).map((fn) => fn.address);
    if (functions.length > 0)
      overrides.push({ parameter, gpus: paths.gpusBelow(new Set(functions)), functions, reason });
  };
  for (const { name, value } of parameters) {
    if (name === "pcie_acs_override") {
      const reason = "the kernel was told to believe in ACS that the hardware does not have";
      add(`${name}=${value ?? ""}`, reason, (fn) => isOverridden(value ?? "", fn));
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

/** The functions from the GPUs up to the root, each once. */
class GpuPaths {
  readonly functions: readonly PciFunction[];
  readonly #gpus: readonly Gpu[];
  readonly #hierarchy: Hierarchy;

  constructor(machine: Machine, hierarchy: Hierarchy) {
    const functions = new Map(machine.functions.map((fn) => [fn.address, fn]));
    this.#gpus = machine.gpus;
    this.#hierarchy = hierarchy;
    const seen = new Set<PciFunction>();
    for (const { address } of machine.gpus) {
      for (let at = functions.get(address) ?? null; at && !seen.has(at); at = hierarchy.parent(at.address) ?? null) {
        seen.add(at);
      }
    }
    this.functions = [...seen];
  }

  /** Names of the GPUs that are or lie below one of these functions. */
  gpusBelow(concerned: ReadonlySet<PciAddress>): string[] {
    const below = new Map<PciAddress, boolean>();
    return this.#gpus.filter(({ address }) => this.#isBelow(address, concerned, below)).map(({ name }) => name);
  }

  /** Remembers for every function passed what it came to, so that paths that share bridges are followed once. */
  #isBelow(address: PciAddress, concerned: ReadonlySet<PciAddress>, below: Map<PciAddress, boolean>): boolean {
    const passed: PciAddress[] = [];
    let at: PciAddress | undefined = address;
    while (at !== undefined && !concerned.has(at) && !below.has(at)) {
      passed.push(at);
      at = this.#hierarchy.parent(at)?.address;
    }
    const result = at !== undefined && (concerned.has(at) || below.get(at) === true);
    for (const each of passed) below.set(each, result);
    return result;
  }
}

/** The types that `multifunction` of `pcie_acs_override` is about. */
const ENDPOINTS = new Set(["endpoint", "legacy-endpoint", "root-complex-endpoint", "upstream-port"]);

/**
 * Whether `downstream`, `multifunction` or `id:VVVV:DDDD` of `pcie_acs_override` speaks of this function. The patch leaves
 * alone what has an ACS capability.
 */
function isOverridden(value: string, fn: PciFunction): boolean {
  if (fn.acs !== undefined) return false;
  // What could not be read may be of any type.
  const type = fn.express?.type;
  return value.split(",").some((word) => {
    if (word === "downstream") return type === undefined || type === "downstream-port" || type === "root-port";
    if (word === "multifunction") {
      const multifunction = fn.multifunction === true || splitAddress(fn.address).function > 0;
      return multifunction && (type === undefined || ENDPOINTS.has(type));
    }
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
