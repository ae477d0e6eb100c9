import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, realpathSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { AptArchive, requireApt } from "./apt_archive.js";
import { CpioArchive } from "./cpio_archive.js";
import { ROOT } from "./guest_files.js";
import { extractVmlinux, KernelModules } from "./guest_kernel.js";
import { unpackKernel } from "./kernel_packages.js";
import { ProgramPrefix, sharedLibraries } from "./program_prefix.js";
import { runCommand } from "./run_command.js";
import { VmCache } from "./vm_cache.js";

/** The first with `vfio-user-pci` is 10.1; 11.1 is the one checked against. */
export const QEMU_SUITE = "forky";
const QEMU_PACKAGES = ["qemu-system-x86"];
/** Debian suites by the kernels that they have: trixie 6.12, forky 7.2 or newer; each with a userspace of the same age. */
export type GuestSuite = "trixie" | "forky";
const GUEST_KERNEL = "linux-image-amd64";
const GUEST_PACKAGES = ["busybox-static", "pciutils", "xz-utils", "zstd"];
const GUEST_PROGRAMS = ["lspci", "setpci"];
const GUEST_MODULES = ["vfio_pci", "vfio_iommu_type1", "uio_pci_generic"];
/** Modules that a job loads by `load NAME`, those they depend on with them. */
const MODULES_ON_DEMAND = [
  "nvme",
  "e1000e",
  "ext4",
  "bochs",
  "pci_stub",
  "9p",
  "9pnet_virtio",
  "virtio_pci",
  "virtio_blk",
];
const GUEST_CONTENTS = [GUEST_KERNEL, ...GUEST_PACKAGES, ...GUEST_MODULES, ...MODULES_ON_DEMAND];

/** What a virtual machine is made of. */
export interface VmParts {
  platform: "q35" | "powernv9";
  qemu: ProgramPrefix;
  /** The kernel, as an ELF image. */
  kernel: string;
  /** Archives that make up the guest's first file system: busybox, lspci, setpci and modules; then Node. */
  base: string;
  node: string;
  /** What has koffi's build for the guest: the folder that stands for `node_modules/@koromix`. */
  koffi: string;
}

/**
 * Gets everything ready: downloads what is not in the cache yet (about 200 MB, once), and leaves it there.
 * @param say told in one line of whatever takes longer than a moment
 * @throws {VmUnavailable} when this machine cannot have it
 */
export async function setUpVm(say: (line: string) => void = () => {}, suite: GuestSuite = "trixie"): Promise<VmParts> {
  requireApt();
  const cache = new VmCache();
  const [qemu, guest, node] = await allOf([
    cache.entry(recipe("qemu", QEMU_SUITE, QEMU_PACKAGES), (target, work) => {
      say("downloading QEMU");
      return getPrefix(target, work, QEMU_SUITE, QEMU_PACKAGES);
    }),
    cache.entry(recipe("guest", suite, GUEST_CONTENTS), (target, work) => {
      say(`downloading the guest's kernel and programs (${suite})`);
      return getGuest(target, work, suite);
    }),
    nodeArchive(cache),
  ]);
  const [kernel, base] = [join(guest, "vmlinux"), join(guest, "base.cpio")];
  const koffi = join(ROOT, "node_modules/@koromix");
  return { platform: "q35", qemu: new ProgramPrefix(qemu), kernel, base, node, koffi };
}

/** As `Promise.all`, but nothing is still under way when it fails. */
export async function allOf<const T extends readonly Promise<string>[]>(parts: T): Promise<{ [K in keyof T]: string }> {
  await Promise.allSettled(parts);
  return Promise.all(parts) as Promise<{ [K in keyof T]: string }>;
}

/** The name of a cache entry: another one when anything else is to be in it. */
export function recipe(name: string, suite: string, contents: readonly string[]): string {
  return `${name}-${suite}-${digest(contents.join())}`;
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 12);
}

/** Unpacks amd64 packages with all that they need to run. */
export async function getPrefix(
  target: string,
  work: string,
  suite: string,
  packages: readonly string[],
): Promise<void> {
  const archive = await AptArchive.open(work, suite, "amd64");
  await archive.unpackAll(packages, target);
}

async function getGuest(target: string, work: string, suite: GuestSuite): Promise<void> {
  const toolsFolder = join(work, "tools");
  const kernelFolder = join(work, "kernel");
  const archive = await AptArchive.open(work, suite, "amd64");
  const kernel = await unpackKernel(archive, GUEST_KERNEL, kernelFolder);
  await archive.unpackAll(GUEST_PACKAGES, toolsFolder);
  const tools = new ProgramPrefix(toolsFolder);
  mkdirSync(target);
  writeFileSync(join(target, "vmlinux"), await extractVmlinux(readFileSync(kernel.image), tools));
  const base = new CpioArchive(join(target, "base.cpio"));
  for (const folder of ["/dev", "/proc", "/sys", "/tmp"]) base.folder(folder);
  base.copy("/bin/busybox", join(toolsFolder, "usr/bin/busybox"));
  await addPrograms(base, tools, GUEST_PROGRAMS);
  const kernelModules = new KernelModules(kernel.modules, tools);
  await kernelModules.add(base, "order", GUEST_MODULES);
  for (const name of MODULES_ON_DEMAND) await kernelModules.add(base, `${name}.order`, [name]);
  base.close();
}

/** Adds programs with libraries of their own, apart from those of other programs, which may be of another age. */
async function addPrograms(archive: CpioArchive, tools: ProgramPrefix, programs: readonly string[]): Promise<void> {
  const libraries = await Promise.all(programs.map((program) => tools.libraries(`usr/bin/${program}`)));
  for (const library of new Set(libraries.flat())) archive.copy(`/tools/lib/${basename(library)}`, library);
  for (const program of programs) {
    archive.copy(`/tools/${program}`, join(tools.folder, "usr/bin", program));
    const start = `exec /tools/lib/ld-linux-x86-64.so.2 --library-path /tools/lib /tools/${program} "$@"`;
    archive.file(`/bin/${program}`, `#!/bin/sh\n${start}\n`, true);
  }
}

/** The Node that runs this, with its libraries where they are here. */
function nodeArchive(cache: VmCache): Promise<string> {
  const node = realpathSync(process.execPath);
  const { size, mtimeMs } = statSync(node);
  return cache.entry(`node-${process.version}-${digest(`${node} ${size} ${mtimeMs}`)}.cpio`, async (target) => {
    const listing = (await runCommand("ldd", [node])).toString("utf8");
    const loader = /^\s*(\/\S*ld-linux\S*)/m.exec(listing)?.[1];
    const archive = new CpioArchive(target);
    archive.copy("/usr/bin/node", node);
    for (const file of new Set([...sharedLibraries(listing), ...(loader === undefined ? [] : [loader])])) {
      archive.copy(file, file);
    }
    archive.close();
  });
}
