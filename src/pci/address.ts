/** A PCI function's address in its one canonical spelling: lower case, domain of at least four digits, `0035:03:00.0`. */
export type PciAddress = string;

/** The numbers an address stands for: domain 0..2^32-1, bus 0..255, device 0..31, function 0..7. */
export interface AddressParts {
  domain: number;
  bus: number;
  device: number;
  function: number;
}

/** A text that is no PCI address. */
export class AddressError extends Error {
  readonly code = "EADDRESS";
  constructor(readonly text: string) {
    super(`not a PCI address: ${JSON.stringify(text)} (expected [domain:]bus:device.function, as in 0004:04:00.0)`);
    this.name = "AddressError";
  }
}

const ADDRESS = /^(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])$/i;

/**
 * Reads `[domain:]bus:device.function`, all hexadecimal; a missing domain is 0. Domains have 16 bits on most machines
 * and 32 behind Intel VMD and Hyper-V.
 * @throws AddressError when the text is none, or its device number is above 31.
 */
export function splitAddress(text: string): AddressParts {
  const match = ADDRESS.exec(text);
  const [, domain, bus, device, fn] = match ?? [];
  if (bus === undefined || device === undefined || fn === undefined) throw new AddressError(text);
  const parts = {
    domain: Number.parseInt(domain ?? "0", 16),
    bus: Number.parseInt(bus, 16),
    device: Number.parseInt(device, 16),
    function: Number(fn),
  };
  if (parts.device > 31) throw new AddressError(text);
  return parts;
}

/** The canonical spelling of an address given in parts. */
export function formatAddress({ domain, bus, device, function: fn }: AddressParts): PciAddress {
  return `${hex(domain, 4)}:${hex(bus, 2)}:${hex(device, 2)}.${fn}`;
}

/**
 * The canonical spelling of an address however it was written.
 * @throws AddressError when the text is no address.
 */
export function parseAddress(text: string): PciAddress {
  return formatAddress(splitAddress(text));
}

/** Whether the text is a PCI address, with or without its domain. */
export function isAddress(text: string): boolean {
  const match = ADDRESS.exec(text);
  return match !== null && Number.parseInt(match[3] ?? "", 16) <= 31;
}

/** Orders addresses by domain, bus, device and function, as `lspci` lists them. */
export function compareAddresses(a: PciAddress, b: PciAddress): number {
  if (a.length === b.length) return a < b ? -1 : a > b ? 1 : 0;
  // Canonical spellings differ in length only by the domain, whose longer spelling is the greater number.
  return a.length - b.length;
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, "0");
}
