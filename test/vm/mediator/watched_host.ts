import { join } from "node:path";
import { builtinMachine } from "../../../src/machine/builtin.js";
import { type RunningServer, startServer } from "../../../src/vfio-user/index.js";
import { nvlinkText } from "../nvlink_text.js";
import type { VirtualMachine } from "../virtual_machine.js";
import type { SeenGpu, WatchedGpusData, WatchedGpusRequest } from "./watched_gpus.js";

const MACHINE = "c4140";
/** Each behind a root port, from this slot on. */
const FIRST_SLOT = 4;

/** The GPUs of a host: V100s of a virtual machine in this process, which a guest has behind root ports of its own. */
export class WatchedHost {
  /**
   * @param folder where the sockets are made
   * @param count how many of the carrier's four GPUs there are
   * @param assign who is to own what, by the names of the carrier
   */
  static async start(folder: string, count: number, assign: readonly string[]): Promise<WatchedHost> {
    const names = builtinMachine(MACHINE).gpus.map(({ name }) => name);
    const sockets = Object.fromEntries(names.slice(0, count).map((name) => [name, join(folder, `${name}.sock`)]));
    const data: WatchedGpusData = { machine: MACHINE, sockets, assign, memorySize: 2 ** 24 };
    const hardware = await startServer({ module: new URL("./watched_gpus.ts", import.meta.url), data });
    return new WatchedHost(hardware, Object.values(sockets));
  }

  private constructor(
    private readonly hardware: RunningServer,
    private readonly sockets: readonly string[],
  ) {}

  /** Where the guest finds them, and what nvidia-smi would say of their links there. */
  get env(): Record<string, string> {
    const addresses = this.sockets.map((_, index) => `0000:0${index + 1}:00.0`);
    return { GPUS: JSON.stringify(addresses), NVLINK: JSON.stringify(nvlinkText(MACHINE, addresses)) };
  }

  /** QEMU's arguments: ports with a bus each, the first ones that are found. */
  get devices(): string[] {
    return this.sockets.flatMap((path, index) => {
      const port = `port${index + 1}`;
      const slot = `chassis=${index + 1},slot=${index + 1},addr=${(FIRST_SLOT + index).toString(16)}.0`;
      const device = { driver: "vfio-user-pci", bus: port, socket: { type: "unix", path } };
      return ["-device", `pcie-root-port,id=${port},bus=pcie.0,${slot}`, "-device", JSON.stringify(device)];
    });
  }

  /**
   * Answers what the guest asks of its hardware until it ends, by its steps: `look` has a {@link SeenGpu} of each, `forget`,
   * `silence GPU0 on`, `lose GPU0 on`, `blind GPU0 off`.
   */
  async answer(vm: VirtualMachine): Promise<void> {
    const ask = (request: WatchedGpusRequest) => this.hardware.call(request);
    for (let step = await vm.nextStep(); step !== undefined; step = await vm.nextStep()) {
      const [kind = "", gpu = "", value = ""] = step.split(" ");
      const seen = kind === "look" ? ((await ask({ kind: "seen" })) as SeenGpu[]) : undefined;
      if (kind === "forget") await ask({ kind });
      if (kind === "silence") await ask({ kind, gpu, silent: value === "on" });
      if (kind === "lose") await ask({ kind, gpu, lost: value === "on" });
      if (kind === "blind") await ask({ kind, gpu, blind: value === "on" });
      vm.proceed(seen === undefined ? "" : JSON.stringify(seen));
    }
  }

  stop(): Promise<void> {
    return this.hardware.stop();
  }
}
