import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { TestContext } from "node:test";

/** What lies at a path: a file's content, a link's target, or an empty folder. */
export type Entry = string | Uint8Array | { link: string } | "folder/";

/** Makes up part of a Linux host below a temporary folder, by paths from its root; removed after the test. */
export function madeUpHost(t: TestContext, entries: Readonly<Record<string, Entry>>): string {
  const root = mkdtempSync(join(tmpdir(), "linkfence-host-"));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  for (const [path, entry] of Object.entries(entries)) put(join(root, path), entry);
  return root;
}

function put(path: string, entry: Entry): void {
  mkdirSync(dirname(path), { recursive: true });
  if (entry === "folder/") mkdirSync(path, { recursive: true });
  else if (typeof entry === "object" && "link" in entry) symlinkSync(entry.link, path);
  else writeFileSync(path, entry);
}

/** A function's folder and the kernel's link to it; `above` is the path below `sys/devices` it hangs under. */
export function madeUpFunction(
  above: string,
  address: string,
  files: Readonly<Record<string, Entry>>,
): Record<string, Entry> {
  const folder = `sys/devices/${above}/${address}`;
  return {
    [`sys/bus/pci/devices/${address}`]: { link: `../../../devices/${above}/${address}` },
    [`${folder}/uevent`]: "",
    ...Object.fromEntries(Object.entries(files).map(([name, entry]) => [`${folder}/${name}`, entry])),
  };
}

/** Config space of so many bytes with ids and class, of header type 0, or 1 when the buses of a bridge are given. */
export function madeUpConfig(options: {
  size: number;
  ids: readonly [vendor: number, device: number];
  classCode: number;
  bar0?: number;
  buses?: readonly [primary: number, secondary: number, subordinate: number];
}): Buffer {
  const config = Buffer.alloc(options.size);
  config.writeUInt16LE(options.ids[0], 0);
  config.writeUInt16LE(options.ids[1], 2);
  config.writeUInt16LE(0x0002, 4);
  config.writeUInt32LE((options.classCode << 8) >>> 0, 8);
  if (options.bar0 !== undefined) config.writeUInt32LE(options.bar0, 0x10);
  if (options.buses !== undefined) {
    config[0x0e] = 1;
    config.set(options.buses, 0x18);
  }
  return config;
}
