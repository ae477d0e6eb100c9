import { builtinMachine } from "../../../../src/machine/builtin.js";
import { readCapture, writeCapture } from "../../../../src/machine/capture.js";
import { MachineError } from "../../../../src/machine/error.js";
import { machineFromLspci } from "../../../../src/machine/from_lspci.js";
import type { Machine } from "../../../../src/machine/machine.js";
import { withMask } from "../../../made_up_machine.js";
import type { Random } from "../../random.js";
import { inputFile, useMachine } from "../commands.js";
import { JSON_MUTATIONS } from "../json_mutation.js";
import { BYTE_MUTATIONS, TEXT_MUTATIONS } from "../mutation.js";
import { samples } from "../samples.js";
import { type MakeTarget, readOrRefused } from "../target.js";

const WRITTEN_AT = "2026-01-31T12:00:00.000Z";

/** Capture files, and what isolation, audit and plan make of them. */
export const makeTarget: MakeTarget = (directory) => ({
  modules: ["/src/machine/capture", "/src/machine/link_state", "/src/isolation/", "/src/cli/"],
  seeds: () => machines().map((machine) => Buffer.from(compact(writeCapture(small(machine), WRITTEN_AT)))),
  mutations: [
    ...BYTE_MUTATIONS.slice(0, 2),
    TEXT_MUTATIONS[4] ?? TEXT_MUTATIONS[0],
    ...JSON_MUTATIONS,
    ...JSON_MUTATIONS,
  ].flatMap((mutation) => mutation ?? []),
  grown,
  async run(input, use) {
    const machine = readOrRefused(() => readCapture(Buffer.from(input).toString("utf8")), MachineError);
    if (machine === undefined) return false;
    await useMachine(machine, () => ({ capture: inputFile(directory, input) }), use);
    return true;
  },
});

function machines(): Machine[] {
  const redbud = builtinMachine("redbud");
  const [one, two] = redbud.gpus.map(({ address }) => address);
  const assigned = ["a", "b"].map((name, index) => ({ name, members: [(index === 0 ? one : two) ?? ""] }));
  const fenced = { ...redbud, gpus: redbud.gpus.map((gpu) => withMask(gpu, 0x000c0000)), assignments: assigned };
  const listed = machineFromLspci(Buffer.from(samples("lspci")[1] ?? []).toString("utf8"), "lspci text");
  const groups = listed.functions.map(({ address }, id) => ({ id, members: [address] }));
  return [fenced, builtinMachine("c4140"), builtinMachine("minsky"), { ...listed, groups }];
}

/** The machine with one BAR and one capability of each function, which is as much as the reader tells apart. */
function small(machine: Machine): Machine {
  const functions = machine.functions.map((fn) => ({
    ...fn,
    bars: fn.bars.slice(0, 1),
    capabilities: fn.capabilities.slice(0, 1),
  }));
  return { ...machine, functions };
}

function compact(text: string): string {
  return JSON.stringify(JSON.parse(text));
}

/** A machine with many functions, bridges, groups and unknowns, but no more GPUs than there are. */
function grown(_: Random, size: number): Uint8Array {
  const machine = builtinMachine("sequoia");
  const text = writeCapture(machine, WRITTEN_AT);
  const copies = Math.ceil((size - text.length) / 1200);
  const addresses = Array.from({ length: Math.max(0, copies) }, (_, at) => {
    const [domain, bus] = [0x1000 + (at >> 12), (at >> 4) & 0xff].map((number) => number.toString(16));
    return `${domain}:${bus?.padStart(2, "0")}:${(at & 0xf).toString(16).padStart(2, "0")}.0`;
  });
  const [fn] = machine.functions.filter(({ express }) => express !== undefined);
  const [bridge] = machine.bridges;
  if (fn === undefined || bridge === undefined) throw new Error("sequoia has neither functions nor bridges");
  const { parent: _parent, ...bare } = fn;
  const grownMachine = {
    ...machine,
    functions: [...machine.functions, ...addresses.map((address) => ({ ...bare, address }))],
    bridges: [...machine.bridges, ...addresses.map((address) => ({ ...bridge, address }))],
    groups: addresses.map((address, id) => ({ id, members: [address] })),
    unknown: addresses.map((address) => ({ what: `all of ${address}`, functions: [address] })),
  };
  return Buffer.from(writeCapture(grownMachine, WRITTEN_AT));
}
