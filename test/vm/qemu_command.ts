import { join } from "node:path";
import type { Command } from "./program_prefix.js";
import type { VmParts } from "./setup.js";
import type { VmOptions } from "./virtual_machine.js";

/** What differs from platform to platform. */
interface Platform {
  program: string;
  args: string[];
  /** `linkfence.*` are for `guest/init`. */
  kernelArguments: string[];
}

/** The command line that starts a machine. Descriptor 3 is to be the job's line to the harness, 4 QMP. */
export function qemuCommand(parts: VmParts, initrd: string, options: VmOptions): Command {
  const platform = parts.platform === "q35" ? q35(options) : powernv9(parts);
  const share = join(parts.qemu.folder, "usr/share");
  const args = ["-L", join(share, "seabios"), "-L", join(share, "qemu"), "-nodefaults", "-no-user-config"];
  args.push("-run-with", "exit-with-parent=on", "-accel", "tcg", "-display", "none", "-serial", "stdio");
  args.push("-m", memory(options), "-chardev", "socket,id=job,fd=3");
  args.push("-chardev", "socket,id=qmp,fd=4", "-object", "monitor-qmp,id=monitor,chardev=qmp");
  if (!options.resettable) args.push("-no-reboot");
  args.push(...platform.args, ...(options.devices ?? []));
  args.push("-kernel", parts.kernel, "-initrd", initrd);
  args.push(
    "-append",
    ["quiet", "panic=-1", ...platform.kernelArguments, ...(options.kernelParameters ?? [])].join(" "),
  );
  return parts.qemu.command(platform.program, args);
}

function q35(options: VmOptions): Platform {
  const args = ["-M", "q35,kernel-irqchip=split", "-cpu", "max"];
  // With ACPI hotplug, QEMU's ports show neither a present device nor an active link, and Linux takes what it has just
  // reset behind one for gone.
  args.push("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off", "-serial", "chardev:job");
  // Emulated on a busy machine, the timer may not tick while the kernel looks whether it does, which is a panic.
  const kernelArguments = ["console=ttyS0", "linkfence.line=ttyS1", "no_timer_check"];
  if (options.sharedMemory) {
    const size = memory(options);
    args.push("-object", `memory-backend-memfd,id=memory,size=${size},share=on`, "-machine", "memory-backend=memory");
  }
  if (options.intelIommu !== undefined) {
    args.push("-device", `intel-iommu,intremap=on,${options.intelIommu}`);
    kernelArguments.push("intel_iommu=on");
  }
  return { program: "usr/bin/qemu-system-x86_64", args, kernelArguments };
}

function powernv9(parts: VmParts): Platform {
  const args = ["-M", "powernv9"];
  // Without a BMC, skiboot cannot power the machine off.
  args.push("-device", "ipmi-bmc-sim,id=bmc", "-device", "isa-ipmi-bt,bmc=bmc,irq=10");
  args.push("-device", "pnv-phb,chip-id=0,index=5,id=linkfence-phb");
  args.push("-device", "pnv-phb-root-port,bus=linkfence-phb,id=linkfence-port");
  // Below a root port there is slot 0 only. The machine's one serial port is the console.
  const place = "bus=linkfence-port,multifunction=on";
  args.push("-device", `virtio-serial-pci,${place},addr=0.0`, "-device", "virtserialport,chardev=job,nr=1");
  // The first file system may have 128 MiB, and Node has more.
  args.push("-drive", `file=${parts.node},if=none,id=node,format=raw,readonly=on`);
  args.push("-device", `virtio-blk-pci,drive=node,${place},addr=0.1`);
  const kernelArguments = ["console=hvc0", "linkfence.line=vport0p1", "linkfence.archive=vda"];
  return { program: "usr/bin/qemu-system-ppc64", args, kernelArguments };
}

function memory(options: VmOptions): string {
  return `${options.memoryMb ?? 1024}M`;
}
