/**
 * The number of an ioctl that the kernel's headers write `_IO(type, number)`: one that names neither a direction nor a size.
 * powerpc, mips and sparc have three direction bits, one of which says "none" (asm/ioctl.h there).
 * @param type one character
 * @param number 0 to 255
 */
export function ioctlNumber(type: string, number: number): number {
  const none = process.arch === "ppc64" ? 0x2000_0000 : 0;
  return none | (type.charCodeAt(0) << 8) | number;
}
