import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { AptArchive, requireApt } from "../apt_archive.js";
import { CpioArchive } from "../cpio_archive.js";
import { ROOT } from "../guest_files.js";
import { KernelModules } from "../guest_kernel.js";
import { unpackKernel } from "../kernel_packages.js";
import { ProgramPrefix } from "../program_prefix.js";
import { runCommand } from "../run_command.js";
import { allOf, getPrefix, QEMU_SUITE, recipe, type VmParts } from "../setup.js";
import { VmCache } from "../vm_cache.js";
import { VmUnavailable } from "../vm_unavailable.js";

const QEMU_PACKAGES = ["qemu-system-ppc"];
/** Its kernel has vfio-pci working on powernv, unlike older ones; pages are of 4 KiB. Node is 24. */
const GUEST_SUITE = "forky";
const GUEST_KERNEL = "linux-image-powerpc64le";
const GUEST_PACKAGES = ["busybox-static", "nodejs", "pciutils"];
const GUEST_PROGRAMS = ["node", "lspci", "setpci"];
const GUEST_MODULES = ["virtio_pci", "virtio_blk", "virtio_console", "vfio_pci", "vfio_iommu_spapr_tce"];
const GUEST_CONTENTS = [GUEST_KERNEL, ...GUEST_PACKAGES, ...GUEST_PROGRAMS, ...GUEST_MODULES];
/** Unpacks modules, here. */
const TOOLS = ["xz-utils"];
const LIBRARIES = "usr/lib/powerpc64le-linux-gnu";
/** Tables for character sets that nothing here uses. */
const LEFT_OUT = ["gconv"];
const KOFFI = "@koromix/koffi-linux-ppc64";

/**
 * Gets everything ready for a POWER9 machine, bare metal with skiboot, as `setUpVm` does: about 150 MB, once.
 * @throws {VmUnavailable} when this machine cannot have it
 */
export async function setUpPower9(say: (line: string) => void = () => {}): Promise<VmParts> {
  requireApt();
  const cache = new VmCache();
  const { version, integrity } = koffiPackage();
  const [qemu, guest, koffi] = await allOf([
    cache.entry(recipe("qemu-ppc", QEMU_SUITE, QEMU_PACKAGES), (target, work) => {
      say("downloading QEMU for POWER9");
      return getPrefix(target, work, QEMU_SUITE, QEMU_PACKAGES);
    }),
    cache.entry(recipe("power9", GUEST_SUITE, GUEST_CONTENTS), (target, work) => {
      say("downloading the POWER9 guest's kernel and programs");
      return getGuest(target, work);
    }),
    cache.entry(recipe("koffi-ppc64", version, [integrity]), (target, work) => getKoffi(target, work)),
  ]);
  const file = (name: string) => join(guest, name);
  const [kernel, base, node] = [file("vmlinux"), file("base.cpio"), file("programs.cpio")];
  return { platform: "powernv9", qemu: new ProgramPrefix(qemu), kernel, base, node, koffi };
}

async function getGuest(target: string, work: string): Promise<void> {
  const [kernelFolder, guestFolder, toolsFolder] = [join(work, "kernel"), join(work, "guest"), join(work, "tools")];
  // Lists and downloads of two architectures are kept apart.
  const archive = await AptArchive.open(join(work, "ppc64el"), GUEST_SUITE, "ppc64el");
  const kernel = await unpackKernel(archive, GUEST_KERNEL, kernelFolder);
  await archive.unpackAll(GUEST_PACKAGES, guestFolder);
  await getPrefix(toolsFolder, join(work, "amd64"), GUEST_SUITE, TOOLS);
  mkdirSync(target);
  copyFileSync(kernel.image, join(target, "vmlinux"));
  const base = new CpioArchive(join(target, "base.cpio"));
  for (const folder of ["/dev", "/proc", "/sys", "/tmp"]) base.folder(folder);
  base.copy("/bin/busybox", join(guestFolder, "usr/bin/busybox"));
  await new KernelModules(kernel.modules, new ProgramPrefix(toolsFolder)).add(base, "order", GUEST_MODULES);
  base.close();
  addPrograms(new CpioArchive(join(target, "programs.cpio")), guestFolder);
}

/** Programs where Debian has them: no loader of this machine's architecture could tell which libraries each needs. */
function addPrograms(archive: CpioArchive, folder: string): void {
  const copy = (path: string) => archive.copy(`/${path}`, join(folder, path));
  for (const program of GUEST_PROGRAMS) copy(`usr/bin/${program}`);
  for (const name of readdirSync(join(folder, LIBRARIES))) {
    if (!LEFT_OUT.includes(name)) archive.entry(`/${LIBRARIES}/${name}`, join(folder, LIBRARIES, name));
  }
  // Debian's Node reads parts of itself from there.
  copy("usr/share/nodejs");
  copy("usr/share/misc");
  archive.link("/lib", "usr/lib");
  archive.link("/lib64", LIBRARIES);
  archive.close();
}

/** What package-lock.json says of koffi's native build for the guest. */
function koffiPackage(): { version: string; integrity: string } {
  const lock = JSON.parse(readFileSync(join(ROOT, "package-lock.json"), "utf8"));
  return lock.packages[`node_modules/${KOFFI}`];
}

async function getKoffi(target: string, work: string): Promise<void> {
  const { version, integrity } = koffiPackage();
  try {
    await runCommand("npm", ["pack", "--silent", "--pack-destination", work, `${KOFFI}@${version}`], { cwd: work });
  } catch (error) {
    throw new VmUnavailable(`cannot get koffi for POWER9: ${(error as Error).message}`);
  }
  const archive = join(work, readdirSync(work).find((name) => name.endsWith(".tgz")) ?? "");
  const sum = `sha512-${createHash("sha512").update(readFileSync(archive)).digest("base64")}`;
  if (sum !== integrity) throw new Error(`${basename(archive)} is not what package-lock.json has: ${sum}`);
  const folder = join(target, basename(KOFFI));
  mkdirSync(folder, { recursive: true });
  await runCommand("tar", ["-xzf", archive, "-C", folder, "--strip-components=1"]);
}
