import { isAddress, type PciAddress, parseAddress } from "../../pci/address.js";
import { MAX_GPUS, MAX_LINKS, MAX_PORTS, NvidiaSmiError, quote, textLines } from "./text.js";

/** What `nvidia-smi nvlink` says of one link. */
export interface NvlinkLine {
  number: number;
  /** The far end's address (`-p`, `-R`). */
  remote?: PciAddress;
  /** The far end's link number (`-R`). */
  remoteLink?: number;
  /** `-s`: a speed is up, `<inactive>` down. */
  status?: "up" | "down";
}

/** What `nvidia-smi nvlink` says of one GPU. */
export interface NvlinkGpu {
  /** nvidia-smi's own number of the GPU. */
  index: number;
  /** Product name: `Tesla V100-SXM2-16GB`. */
  product: string;
  uuid?: string;
  /** By link number, ascending. */
  links: NvlinkLine[];
  /** In place of links it said that all are inactive. */
  allInactive: boolean;
}

/**
 * Reads the output of `nvidia-smi nvlink -p`, `-R` or `-s`, or several of them one after the other: a line per GPU,
 * then a line per link. Other lines are passed over. GPUs come back by index, none when there is no such output.
 * @throws NvidiaSmiError when the outputs contradict each other, or a number or an address is none
 */
export function parseNvlink(text: string): NvlinkGpu[] {
  const report = new NvlinkReport();
  for (const [index, line] of textLines(text).entries()) report.readLine(line.trim(), index + 1);
  return report.gpus();
}

const GPU_LINE = /^GPU (\d{1,9}): (.*)$/;
const LINK_LINE = /^Link (\d{1,9}): (.*)$/;
const REMOTE_DEVICE = /^Remote Device (\S+): Link (\d{1,9})$/;
const SPEED = /^\d{1,6}(?:\.\d{1,6})? GB\/s$/;
const UUID = /\(UUID: ([^()\s]{1,64})\)/;

interface GpuRead {
  gpu: NvlinkGpu;
  links: Map<number, NvlinkLine>;
  line: number;
}

class NvlinkReport {
  readonly #gpus = new Map<number, GpuRead>();
  #current: GpuRead | undefined;

  gpus(): NvlinkGpu[] {
    return [...this.#gpus.values()]
      .map(({ gpu, links }) => ({ ...gpu, links: [...links.values()].sort((a, b) => a.number - b.number) }))
      .sort((a, b) => a.index - b.index);
  }

  readLine(line: string, number: number): void {
    const gpu = GPU_LINE.exec(line);
    if (gpu?.[1] !== undefined && gpu[2] !== undefined) {
      this.#readGpu(Number(gpu[1]), gpu[2], number);
      return;
    }
    const link = LINK_LINE.exec(line);
    if (link?.[1] !== undefined && link[2] !== undefined) this.#readLink(Number(link[1]), link[2].trim(), number);
    else if (this.#current !== undefined && saysAllInactive(line)) this.#current.gpu.allInactive = true;
  }

  #readGpu(index: number, description: string, line: number): void {
    if (index >= MAX_GPUS) throw new NvidiaSmiError(`GPU ${index}: no machine has that many`, line);
    const uuid = UUID.exec(description)?.[1];
    const product = description.split(" (UUID:", 1)[0]?.trim() ?? "";
    const known = this.#gpus.get(index);
    if (known === undefined) {
      const gpu = { index, product, ...(uuid === undefined ? {} : { uuid }), links: [], allInactive: false };
      this.#current = { gpu, links: new Map(), line };
      this.#gpus.set(index, this.#current);
    } else {
      if (uuid !== undefined && known.gpu.uuid !== undefined && uuid !== known.gpu.uuid) {
        const problem = `GPU ${index} has another UUID than on line ${known.line}: outputs of different machines`;
        throw new NvidiaSmiError(problem, line);
      }
      this.#current = known;
    }
    if (saysAllInactive(description)) this.#current.gpu.allInactive = true;
  }

  #readLink(number: number, rest: string, line: number): void {
    const said = readLinkText(number, rest, line);
    if (said === undefined) return;
    if (number >= MAX_LINKS) throw new NvidiaSmiError(`link ${number}: no GPU has that many`, line);
    if (this.#current === undefined) throw new NvidiaSmiError("a link before any line that names a GPU", line);
    const { gpu, links } = this.#current;
    const known = links.get(number);
    for (const key of ["remote", "remoteLink", "status"] as const) {
      if (known?.[key] !== undefined && said[key] !== undefined && known[key] !== said[key]) {
        const problem = `GPU ${gpu.index} link ${number}: ${said[key]} here, but ${known[key]} further up`;
        throw new NvidiaSmiError(problem, line);
      }
    }
    links.set(number, { ...known, ...said });
  }
}

/** What follows `Link 3:`, or undefined when it is neither far end nor status (error counters, throughput). */
function readLinkText(number: number, rest: string, line: number): NvlinkLine | undefined {
  if (/^<?inactive>?$/i.test(rest)) return { number, status: "down" };
  if (SPEED.test(rest)) return { number, status: "up" };
  const device = REMOTE_DEVICE.exec(rest);
  if (device?.[1] !== undefined) {
    const remoteLink = Number(device[2]);
    if (remoteLink >= MAX_PORTS)
      throw new NvidiaSmiError(`link ${remoteLink}: neither GPU nor switch has that many`, line);
    return { number, remote: readAddress(device[1], line), remoteLink };
  }
  if (rest.startsWith("Remote Device")) {
    throw new NvidiaSmiError(`expected "Remote Device ADDRESS: Link N", found ${quote(rest)}`, line);
  }
  return /^[0-9a-f:.]*:[0-9a-f:.]*$/i.test(rest) ? { number, remote: readAddress(rest, line) } : undefined;
}

function readAddress(text: string, line: number): PciAddress {
  if (!isAddress(text)) throw new NvidiaSmiError(`not a PCI address: ${quote(text)}`, line);
  return parseAddress(text);
}

function saysAllInactive(line: string): boolean {
  return line.toLowerCase().includes("all links are inactive");
}
