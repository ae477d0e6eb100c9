import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { AptArchive } from "./apt_archive.js";

/** A kernel as its packages have it. */
export interface PackagedKernel {
  /** The file that a boot loader starts; packed on amd64, an ELF image on ppc64el. */
  image: string;
  /** `lib/modules/RELEASE` */
  modules: string;
}

/**
 * Downloads and unpacks the kernel that a package like `linux-image-amd64` stands for: it and its modules alone, for its
 * packages would draw in what an installed system needs to start.
 * @throws {VmUnavailable} without network
 */
export async function unpackKernel(archive: AptArchive, standsFor: string, into: string): Promise<PackagedKernel> {
  const [image, release = ""] = /linux-image-([0-9][^ ,]*)/.exec(await archive.field(standsFor, "Depends")) ?? [];
  if (image === undefined) throw new Error(`no kernel behind ${standsFor}`);
  // Since forky the image's package is empty, and what was in it comes in several.
  const parts = ["modules", "binary", "base"].map((part) => `linux-${part}-${release}`);
  const names = (await archive.has(parts[0] ?? "")) ? parts : [image];
  await archive.unpackOnly(names, into);
  const modules = firstOf(into, [`usr/lib/modules/${release}`, `lib/modules/${release}`]);
  const boot = ["vmlinuz", "vmlinux"].flatMap((name) => [
    join(modules, name),
    join(into, "boot", `${name}-${release}`),
  ]);
  const file = boot.find((path) => existsSync(path));
  if (file === undefined) throw new Error(`${names.join(" ")} have no kernel image`);
  return { image: file, modules };
}

function firstOf(folder: string, names: readonly string[]): string {
  const found = names.map((name) => join(folder, name)).find((path) => existsSync(path));
  if (found === undefined) throw new Error(`no ${names.join(" nor ")} among ${readdirSync(folder).join(", ")}`);
  return found;
}
