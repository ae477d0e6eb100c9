import type { GpuPort } from "../../fence/gpu_port.js";
import { LivePort, type LivePortOptions } from "../../host/live_port.js";
import type { PciAddress } from "../../pci/address.js";

/** As {@link LivePortOptions}, for all GPUs. */
export interface LivePortsOptions extends Omit<LivePortOptions, "mayHit"> {
  mayHit?: (gpu: PciAddress) => ReadonlySet<PciAddress>;
}

/** The GPUs of this host as fences see them, each opened when it is first asked for. */
export class LivePorts {
  readonly #ports = new Map<PciAddress, LivePort>();

  constructor(private readonly options: LivePortsOptions) {}

  /** The port of a GPU; the same one each time. */
  readonly port = (address: PciAddress): GpuPort => {
    let port = this.#ports.get(address);
    if (port === undefined) {
      const { mayHit, ...options } = this.options;
      port = new LivePort(address, { ...options, ...(mayHit && { mayHit: mayHit(address) }) });
      this.#ports.set(address, port);
    }
    return port;
  };

  close(): void {
    for (const port of this.#ports.values()) port.close();
    this.#ports.clear();
  }
}
