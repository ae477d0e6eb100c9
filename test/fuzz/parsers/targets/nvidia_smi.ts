import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { builtinMachine } from "../../../../src/machine/builtin.js";
import { writeCapture } from "../../../../src/machine/capture.js";
import type { Link, Machine } from "../../../../src/machine/machine.js";
import { NvidiaSmiError } from "../../../../src/machine/nvidia_smi/text.js";
import { applyNvlink } from "../../../../src/machine/nvidia_smi.js";
import type { Random } from "../../random.js";
import { inputFile, useMachine } from "../commands.js";
import { BYTE_MUTATIONS, TEXT_MUTATIONS } from "../mutation.js";
import { samples } from "../samples.js";
import { type MakeTarget, readOrRefused } from "../target.js";

/** Text of nvidia-smi nvlink -p, -R and -s and of topo -m, applied to machines that have such GPUs. */
export const makeTarget: MakeTarget = (directory) => {
  const machines = [
    withoutFarEnds(builtinMachine("c4140")),
    builtinMachine("dgx1v"),
    withoutFarEnds(builtinMachine("hgx-a100-4")),
    withSwitch(withoutFarEnds(builtinMachine("hgx-a100-4"))),
  ].map((machine, index) => {
    const capture = join(directory, `machine${index}`);
    writeFileSync(capture, writeCapture(machine, "2026-01-31T12:00:00.000Z"));
    return { machine, capture };
  });
  return {
    modules: ["/src/machine/nvidia_smi"],
    seeds: () => samples("nvidia-smi"),
    mutations: [...BYTE_MUTATIONS, ...TEXT_MUTATIONS, ...TEXT_MUTATIONS],
    grown,
    async run(input, use) {
      const text = Buffer.from(input).toString("utf8");
      let accepted = false;
      for (const [index, { machine, capture }] of machines.entries()) {
        const told = readOrRefused(() => applyNvlink(machine, { nvlink: text, topo: text }), NvidiaSmiError);
        if (told === undefined) continue;
        accepted = true;
        const source = () => ({ capture, nvlink: [inputFile(directory, input)] });
        // One of them is enough for a quick look, and which one the input decides.
        const isUsed = use === "commands" || index === input.length % machines.length;
        if (told !== machine && isUsed) await useMachine(told, source, use);
      }
      return accepted;
    },
  };
};

/** As sysfs shows the machine: GPUs by address, links whose far ends nobody knows. */
function withoutFarEnds(machine: Machine): Machine {
  const gpus = machine.gpus.map((gpu) => {
    const links = gpu.links.map(
      ({ number }): Link => ({ number, far: { kind: "unknown" }, state: "unknown", origin: "sysfs" }),
    );
    return { ...gpu, name: gpu.address, links };
  });
  return { ...machine, gpus };
}

/** The far end that the sample of an NVSwitch names. */
function withSwitch(machine: Machine): Machine {
  const address = "0000:c4:00.0";
  const fn = { address, vendorId: 0x10de, classCode: 0x068000, bars: [], capabilities: [] };
  return { ...machine, functions: [...machine.functions.filter((other) => other.address !== address), fn] };
}

/** Lines of GPUs, links and of a matrix, as many as nvidia-smi may print. */
function grown(_: Random, size: number): Uint8Array {
  const gpus = Math.min(1000, size >> 9);
  const lines = ["GPU0\tCPU Affinity", "GPU0\t X \t0-7"];
  for (let at = 0; lines.length < size >> 5; at++) {
    const [gpu, link] = [at % gpus, Math.floor(at / gpus) % 18];
    const bus = ((7 * gpu + link) % 256).toString(16).padStart(2, "0");
    lines.push(`GPU ${gpu}: Tesla V100-SXM2-16GB (UUID: GPU-${gpu})`, `\t Link ${link}: 00000000:${bus}:00.0`);
  }
  return Buffer.from(`${lines.join("\n")}\n`);
}
