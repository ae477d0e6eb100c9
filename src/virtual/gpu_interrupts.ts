import { VFIO_PCI_MSI_IRQ_INDEX } from "../vfio/constants.js";
import type { DeviceClient } from "../vfio/device.js";
import type { Steps } from "../vfio/steps.js";
import type { VirtualGpu } from "./virtual_gpu.js";

/**
 * Takes a GPU's interrupts to its client: by MSI when the guest has enabled it, else on the INTx line.
 *
 * MSI: one message when the chip's interrupt line rises, or MSI is enabled while it is up. Real GPUs send no further
 * message until the driver writes the re-arm register. Here such a write sends one when the line is still up, and a line
 * that went down and rises again needs none; so a driver that re-arms and one that only acknowledges both get every
 * interrupt. Bus mastering is not asked for.
 */
export class GpuInterrupts {
  readonly #gpu: VirtualGpu;
  #client: DeviceClient | undefined;
  #message = false;
  #intx = false;
  /** The alarm's steps run. */
  #waiting = false;
  /** What they wait for may have changed. */
  #moved = false;

  constructor(gpu: VirtualGpu) {
    this.#gpu = gpu;
  }

  /** A client has arrived: it gets what is pending, too. */
  attach(client: DeviceClient): void {
    this.#client = client;
    this.#message = false;
    this.#intx = false;
    this.update(false);
  }

  detach(): void {
    this.#client = undefined;
  }

  /** Brings the client, config space and the wait for the alarm up to date. */
  update(rearmed: boolean): void {
    const { interruptLine, msiEnabled, interruptDisabled } = this.#gpu;
    const message = interruptLine && msiEnabled;
    const intx = interruptLine && !msiEnabled;
    this.#gpu.setInterruptStatus(intx);
    this.#driveIntx(intx && !interruptDisabled);
    const send = message && (rearmed || !this.#message);
    this.#message = message;
    if (send) this.#client?.trigger(VFIO_PCI_MSI_IRQ_INDEX, 0);
    this.#watchAlarm();
  }

  #driveIntx(asserted: boolean): void {
    if (asserted === this.#intx) return;
    this.#intx = asserted;
    this.#client?.setIntx(asserted);
  }

  #watchAlarm(): void {
    this.#moved = true;
    if (!this.#waiting && this.#gpu.untilAlarm !== undefined) this.#client?.start(this.#alarm());
  }

  /** Waits for the alarm, as long as there is one to wait for. */
  *#alarm(): Steps {
    this.#waiting = true;
    try {
      for (let wait = this.#gpu.untilAlarm; wait !== undefined; wait = this.#gpu.untilAlarm) {
        this.#moved = false;
        yield { deadline: performance.now() + wait, done: () => this.#moved };
        this.update(false);
      }
    } finally {
      this.#waiting = false;
    }
  }
}
