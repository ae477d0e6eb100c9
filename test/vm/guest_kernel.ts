import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import type { CpioArchive } from "./cpio_archive.js";
import type { ProgramPrefix } from "./program_prefix.js";

/**
 * The ELF image inside a compressed one, which QEMU starts directly (by its PVH entry) and which spares the guest the
 * unpacking. Offsets are those of the x86 boot protocol (the kernel's Documentation/arch/x86/boot.rst).
 */
export async function extractVmlinux(bzImage: Buffer, tools: ProgramPrefix): Promise<Buffer> {
  const setupSectors = bzImage.readUInt8(0x1f1) || 4;
  const start = (setupSectors + 1) * 512 + bzImage.readUInt32LE(0x248);
  // The last four bytes are the size of the unpacked kernel, and no part of the zstd frame.
  const payload = bzImage.subarray(start, start + bzImage.readUInt32LE(0x24c) - 4);
  return tools.run("usr/bin/zstd", ["-dcq"], payload);
}

/** A kernel's modules, packed as `.ko.xz`. */
export class KernelModules {
  readonly #files = new Map<string, string>();
  readonly #builtIn: Set<string>;
  readonly #added = new Set<string>();

  /** @param folder `lib/modules/RELEASE` */
  constructor(
    folder: string,
    private readonly tools: ProgramPrefix,
  ) {
    for (const file of readdirSync(join(folder, "kernel"), { recursive: true, encoding: "utf8" })) {
      if (file.endsWith(".ko.xz")) this.#files.set(moduleName(file), join(folder, "kernel", file));
    }
    const builtIn = join(folder, "modules.builtin");
    this.#builtIn = new Set(
      existsSync(builtIn) ? readFileSync(builtIn, "utf8").trim().split("\n").map(moduleName) : [],
    );
  }

  /**
   * Adds modules, and those they depend on, to an archive: `/modules/NAME.ko`, and `/modules/LIST`, a list in the order
   * in which they load. What is built in is in no list, and what an earlier list has is not added again.
   * @throws {Error} when the kernel lacks one
   */
  async add(archive: CpioArchive, list: string, names: readonly string[]): Promise<void> {
    const order: string[] = [];
    for (const name of names) await this.#addOne(archive, name, order);
    archive.file(`/modules/${list}`, order.map((name) => `${name}\n`).join(""));
  }

  async #addOne(archive: CpioArchive, name: string, order: string[]): Promise<void> {
    if (order.includes(name) || this.#builtIn.has(name)) return;
    const file = this.#files.get(name);
    if (file === undefined) throw new Error(`the kernel has no module ${name}`);
    const code = await this.tools.run("usr/bin/xz", ["-dc", file]);
    for (const needed of dependencies(code)) await this.#addOne(archive, needed, order);
    if (!this.#added.has(name)) archive.file(`/modules/${name}.ko`, code);
    this.#added.add(name);
    order.push(name);
  }
}

/** Files and dependencies spell the same name with `-` and `_`. */
function moduleName(file: string): string {
  return basename(file)
    .replace(/\.ko.*$/, "")
    .replaceAll("-", "_");
}

/** What the `depends=` string among a module's information lists. */
function dependencies(code: Buffer): string[] {
  const start = code.indexOf("\0depends=");
  if (start < 0) return [];
  const list = code.toString("latin1", start + "\0depends=".length, code.indexOf(0, start + 1));
  return list === "" ? [] : list.split(",").map(moduleName);
}
