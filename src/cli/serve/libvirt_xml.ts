import { deviceArguments, type HardwareKind } from "./qemu_arguments.js";

/**
 * What a libvirt domain needs for these functions. libvirt has no element for vfio-user, so QEMU's own options are handed
 * through (https://libvirt.org/drvqemu.html#pass-through-of-arbitrary-qemu-commands).
 * @param sockets absolute paths without control characters, which XML cannot have
 */
export function libvirtLines(sockets: readonly string[], hardware: HardwareKind): string[] {
  const args = deviceArguments(sockets, hardware);
  return [
    "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>",
    "  <memoryBacking>",
    "    <source type='memfd'/>",
    "    <access mode='shared'/>",
    "  </memoryBacking>",
    "  <qemu:commandline>",
    ...args.map((arg) => `    <qemu:arg value='${escaped(arg)}'/>`),
    "  </qemu:commandline>",
    "</domain>",
  ];
}

const ENTITIES: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", "'": "&apos;" };

/** As the value of an attribute between single quotes. */
function escaped(text: string): string {
  return text.replace(/[&<']/g, (character) => ENTITIES[character] ?? character);
}
