import { statSync } from "node:fs";
import { MAX_SOCKET_PATH } from "../../os/index.js";
import {
  type IrqInfo,
  type RegionCapability,
  type RegionInfo,
  VFIO_DEVICE_FLAGS_RESET,
  VFIO_IRQ_INFO_AUTOMASKED,
  VFIO_IRQ_INFO_EVENTFD,
  VFIO_IRQ_INFO_MASKABLE,
  VFIO_IRQ_INFO_NORESIZE,
  VFIO_PCI_NUM_REGIONS,
  VFIO_REGION_INFO_FLAG_MMAP,
  VFIO_REGION_INFO_FLAG_READ,
  VFIO_REGION_INFO_FLAG_WRITE,
  VfioError,
} from "../../vfio/index.js";
import { OsError, VfioUserClient } from "../../vfio-user/index.js";
import { UsageError } from "../failure.js";
import { type OutputOptions, table, writeJson, writeLines } from "../output.js";

const REGIONS = ["bar0", "bar1", "bar2", "bar3", "bar4", "bar5", "rom", "config", "vga"];
const IRQS = ["INTx", "MSI", "MSI-X", "ERR", "REQ"];
const MAX_READ = 1 << 20;
/** Milliseconds. What a reset waits for is the device's business, and may take long. */
const RESET_TIMEOUT = 60_000;
/** A hostile server may claim any number of regions; QEMU, too, takes no more than this. */
const MAX_INDEXES = 100;

/** `linkfence vfio-user info`: what the device has. */
export function runInfo(socket: string, options: OutputOptions): void {
  withClient(socket, (client) => {
    const device = client.deviceInfo();
    if (device.numRegions > MAX_INDEXES || device.numIrqs > MAX_INDEXES) {
      throw new UsageError(
        `${socket}: the server claims ${device.numRegions} regions and ${device.numIrqs} interrupts`,
      );
    }
    const regions = Array.from({ length: device.numRegions }, (_, index) => regionOf(client, index));
    const irqs = Array.from({ length: device.numIrqs }, (_, index) => client.irqInfo(index));
    const canReset = (device.flags & VFIO_DEVICE_FLAGS_RESET) !== 0;
    if (options.json === true) writeJson(infoJson(client, canReset, regions, irqs));
    else writeLines(infoLines(socket, canReset, regions, irqs));
  });
}

/** `linkfence vfio-user read`: a register as a number, more as a hex dump. */
export function runRead(
  socket: string,
  region: string,
  offset: string,
  count: string | undefined,
  options: OutputOptions,
): void {
  const length = wholeNumber(count ?? "4", "count", BigInt(MAX_READ));
  const index = regionIndex(region);
  const start = wholeNumber(offset, "offset", (1n << 64n) - 1n);
  if (length === 0n) throw new UsageError("count 0: nothing to read");
  withClient(socket, (client) => {
    const data = Buffer.from(client.read(index, start, Number(length)));
    // One that the region's end cuts off is no register's value.
    const value = isRegister(data.length) && data.length === Number(length) ? littleEndian(data) : undefined;
    if (options.json === true) {
      writeJson({
        region: regionName(index),
        offset: start,
        data: data.toString("hex"),
        ...(value && { value }),
      });
    } else {
      writeLines(value === undefined ? hexDump(data, start) : [value]);
    }
  });
}

/** `linkfence vfio-user write`: one value. */
export function runWrite(
  socket: string,
  region: string,
  offset: string,
  value: string,
  options: OutputOptions & { size: string },
): void {
  const size = Number(wholeNumber(options.size, "size", 8n));
  if (!isRegister(size)) throw new UsageError(`--size ${options.size}: expected 1, 2, 4 or 8`);
  const index = regionIndex(region);
  const start = wholeNumber(offset, "offset", (1n << 64n) - 1n);
  const data = Buffer.alloc(8);
  data.writeBigUInt64LE(wholeNumber(value, "value", (1n << BigInt(8 * size)) - 1n));
  withClient(socket, (client) => {
    const written = client.write(index, start, data.subarray(0, size));
    if (options.json === true) writeJson({ region: regionName(index), offset: start, written });
    else if (written < size) writeLines([`${written} of ${size} bytes written: the region ends there`]);
  });
}

/** `linkfence vfio-user reset`. */
export function runReset(socket: string, options: OutputOptions): void {
  const reset = (client: VfioUserClient) => {
    client.reset();
    if (options.json === true) writeJson({ reset: true });
  };
  withClient(socket, reset, RESET_TIMEOUT);
}

function withClient(socket: string, act: (client: VfioUserClient) => void, timeout = 5000): void {
  let client: VfioUserClient | undefined;
  try {
    client = new VfioUserClient(socket, { timeout });
    act(client);
  } catch (error) {
    throw error instanceof OsError || error instanceof VfioError
      ? new UsageError(`${socket}: ${reasonOf(error, socket)}`)
      : error;
  } finally {
    client?.close();
  }
}

const CLOSED = "the server closed the connection";
const NOT_READY = "the device could not be made ready for a client; the server's output says why";
const REFUSED = "the server refuses it; `linkfence vfio-user info` shows how large regions are and what they allow";

/** By what failed, a system call or a command that the server refused, and how. */
const REASONS: Readonly<Record<string, string>> = {
  "connect ENOENT": "no such socket; start the server first, or check the path",
  "connect ECONNREFUSED": "nobody serves there any more; start the server again",
  "connect EACCES": "no permission to connect; the socket belongs to whoever started the server",
  "connect EAGAIN": "too many clients wait there already; is the server stuck?",
  "VERSION EBUSY": "another client is attached (one at a time); detach it first",
  "VERSION EIO": NOT_READY,
  "VERSION ENODEV": NOT_READY,
  "VERSION ETIMEDOUT": NOT_READY,
  "REGION_READ EINVAL": REFUSED,
  "REGION_WRITE EINVAL": REFUSED,
  "DEVICE_RESET ENOTSUP": "the device cannot be reset",
  "recvmsg ECONNRESET": CLOSED,
  "send EPIPE": CLOSED,
};

function reasonOf(error: OsError | VfioError, socket: string): string {
  if (error instanceof VfioError) return error.message;
  if (error.code === "ENAMETOOLONG") return `a socket's path has 1 to ${MAX_SOCKET_PATH} bytes`;
  // The kernel says so of any file, too.
  const isRefused = error.syscall === "connect" && error.code === "ECONNREFUSED";
  if (isRefused && statSync(socket, { throwIfNoEntry: false })?.isSocket() === false) return "not a socket";
  return REASONS[`${error.syscall} ${error.code}`] ?? `${error.syscall}: ${error.code}`;
}

function regionOf(client: VfioUserClient, index: number): RegionInfo {
  const { info, fd } = client.regionInfo(index);
  fd?.close();
  return info;
}

function regionIndex(text: string): number {
  const index = REGIONS.indexOf(text.toLowerCase());
  if (index >= 0) return index;
  if (/^\d/.test(text)) return Number(wholeNumber(text, "region", 0xffffffffn));
  throw new UsageError(`region '${text}': expected a number or one of ${REGIONS.join(", ")}`);
}

function wholeNumber(text: string, what: string, most: bigint): bigint {
  if (!/^(0x[\da-f]{1,16}|\d{1,20})$/i.test(text))
    throw new UsageError(`${what} '${text}': expected a number such as 4096 or 0x1000`);
  const value = BigInt(text);
  if (value > most) throw new UsageError(`${what} ${text}: at most 0x${most.toString(16)}`);
  return value;
}

function isRegister(size: number): boolean {
  return [1, 2, 4, 8].includes(size);
}

function littleEndian(data: Uint8Array): string {
  return `0x${Buffer.from(data).reverse().toString("hex")}`;
}

function hexDump(data: Uint8Array, start: bigint): string[] {
  return Array.from({ length: Math.ceil(data.length / 16) }, (_, row) => {
    const bytes = Array.from(data.subarray(16 * row, 16 * row + 16), (byte) => byte.toString(16).padStart(2, "0"));
    return `${(start + BigInt(16 * row)).toString(16).padStart(8, "0")}: ${bytes.join(" ")}`;
  });
}

function names(flags: number, known: readonly (readonly [number, string])[]): string[] {
  return known.filter(([bit]) => (flags & bit) !== 0).map(([, name]) => name);
}

function regionFlags({ flags }: RegionInfo): string[] {
  return names(flags, [
    [VFIO_REGION_INFO_FLAG_READ, "read"],
    [VFIO_REGION_INFO_FLAG_WRITE, "write"],
    [VFIO_REGION_INFO_FLAG_MMAP, "mmap"],
  ]);
}

function irqFlags({ flags }: IrqInfo): string[] {
  return names(flags, [
    [VFIO_IRQ_INFO_EVENTFD, "eventfd"],
    [VFIO_IRQ_INFO_MASKABLE, "maskable"],
    [VFIO_IRQ_INFO_AUTOMASKED, "automasked"],
    [VFIO_IRQ_INFO_NORESIZE, "noresize"],
  ]);
}

function regionName(index: number): string {
  return REGIONS[index] ?? `region ${index}`;
}

function infoJson(client: VfioUserClient, canReset: boolean, regions: RegionInfo[], irqs: IrqInfo[]): unknown {
  return {
    reset: canReset,
    capabilities: client.capabilities,
    regions: regions
      .filter(({ size, index }) => size > 0n || index >= VFIO_PCI_NUM_REGIONS)
      .map((region) => ({
        index: region.index,
        name: regionName(region.index),
        size: region.size,
        flags: regionFlags(region),
        capabilities: region.capabilities.map(capabilityJson),
      })),
    irqs: irqs
      .filter(({ count }) => count > 0)
      .map((irq) => ({
        index: irq.index,
        name: IRQS[irq.index] ?? `irq ${irq.index}`,
        count: irq.count,
        flags: irqFlags(irq),
      })),
  };
}

function capabilityJson(capability: RegionCapability): unknown {
  return capability.kind === "other"
    ? { ...capability, data: Buffer.from(capability.data).toString("hex") }
    : capability;
}

function capabilityText(capability: RegionCapability): string {
  const hex = (value: bigint | number) => `0x${value.toString(16)}`;
  switch (capability.kind) {
    case "sparse-mmap":
      return `SPARSE_MMAP ${capability.areas.map(({ offset, size }) => `${hex(offset)}+${hex(size)}`).join(" ")}`;
    case "type":
      return `TYPE ${hex(capability.type)} subtype ${capability.subtype}`;
    case "msix-mappable":
      return "MSIX_MAPPABLE";
    case "nvlink2-ssatgt":
      return `NVLINK2_SSATGT ${hex(capability.tgt)}`;
    case "nvlink2-lnkspd":
      return `NVLINK2_LNKSPD ${capability.linkSpeed}`;
    case "other":
      return `capability ${capability.id} version ${capability.version}`;
  }
}

function infoLines(socket: string, canReset: boolean, regions: RegionInfo[], irqs: IrqInfo[]): string[] {
  const regionRows = regions
    .filter(({ size, index }) => size > 0n || index >= VFIO_PCI_NUM_REGIONS)
    .map((region) => [
      regionName(region.index),
      `0x${region.size.toString(16)}`,
      regionFlags(region).join(" "),
      region.capabilities.map(capabilityText).join("; "),
    ]);
  const irqRows = irqs
    .filter(({ count }) => count > 0)
    .map((irq) => [IRQS[irq.index] ?? `irq ${irq.index}`, String(irq.count), irqFlags(irq).join(" ")]);
  return [
    `${socket}: PCI device, ${canReset ? "can be reset" : "cannot be reset"}`,
    "",
    table(["region", "size", "access", "capabilities"], regionRows),
    "",
    table(["interrupt", "count", "flags"], irqRows),
  ];
}
