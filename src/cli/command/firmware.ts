import { writeDeviceTree } from "../../devicetree/write.js";
import { needsProbe, probeNvlink } from "../../machine/firmware.js";
import { machineFromDeviceTree } from "../../machine/from_device_tree.js";
import { UsageError } from "../failure.js";
import { heading } from "../heading.js";
import { writeJson, writeLines } from "../output.js";
import { readTree } from "../source.js";
import { writeFileWhole } from "../write_file.js";

/** `linkfence firmware`: a firmware tree made full, as a blob that `dtc` reads. */
export async function runFirmware(options: { deviceTree: string; out?: string; json?: boolean }): Promise<number> {
  const tree = await readTree(options.deviceTree);
  if (!needsProbe(tree)) {
    throw new UsageError(
      `${options.deviceTree} is no AC922 firmware tree with NPU links and unprobed PCI; linkfence topo --device-tree reads full trees`,
    );
  }
  const full = probeNvlink(tree);
  const blob = writeDeviceTree(full);
  if (options.out === undefined || options.out === "-") {
    process.stdout.write(blob);
    return 0;
  }
  const machine = machineFromDeviceTree(full, `device tree ${options.out}`);
  await writeFileWhole(options.out, blob);
  if (options.json === true) {
    writeJson({
      machine: machine.name,
      virtual: true,
      out: options.out,
      bytes: blob.length,
      gpus: machine.gpus.map((gpu) => gpu.name),
      bridges: machine.bridges.length,
    });
  } else {
    writeLines([
      heading(machine),
      `${blob.length} bytes written to ${options.out}; read it with dtc -I dtb -O dts ${options.out}`,
    ]);
  }
  return 0;
}
