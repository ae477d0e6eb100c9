import { VfioError } from "../vfio/error.js";
import { type Steps, waitUntil } from "../vfio/steps.js";
import type { GpuMemory } from "./gpu_memory.js";

/** The functions through which a GPU's memory is reached: the GPU, and the bridge that shows it as a BAR. */
export type MemoryFunction = "gpu" | "bridge";

/** How long a client waits for those of its GPU's last owner to be gone, in milliseconds. */
const PATIENCE = 1000;
const INTERVAL = 10;

/**
 * Who has a GPU's memory. The clients of the GPU and of the bridge that shows its memory are one owner's and share one
 * file, so that both see the same bytes. The owner's time is over when the client of the GPU has left, or the last one:
 * from then on nobody is let in before everybody has left and the memory is another, empty one. A client that stays at
 * the bridge then, or goes on mapping, keeps what it had and sees nothing of the next owner's.
 *
 * A device passes on what it is told of its client, under the same names.
 */
export class MemoryClients {
  readonly #attached = new Set<MemoryFunction>();
  #isOver = false;

  constructor(readonly memory: GpuMemory) {}

  /** @throws {VfioError} EBUSY while a client of the last owner stays */
  *beforeOpen(): Steps {
    if (!(yield* waitUntil(() => !this.#isHeldOver, PATIENCE, INTERVAL))) throw heldOver();
    if (this.#isOver) yield* this.afterClose();
  }

  /** @throws {VfioError} EBUSY while a client of the last owner stays */
  open(via: MemoryFunction): void {
    if (this.#isHeldOver) throw heldOver();
    // Whoever was to do it was cancelled, or is still at it.
    if (this.#isOver) this.#renew();
    this.#attached.add(via);
  }

  close(via: MemoryFunction): void {
    this.#attached.delete(via);
    if (via === "gpu" || this.#attached.size === 0) this.#isOver = true;
  }

  /** Nothing that anybody left in the memory is there for the next owner. Does nothing while somebody has it. */
  *afterClose(): Steps {
    if (this.#attached.size > 0) return;
    this.#isOver = true;
    try {
      // Closing a file with gigabytes in it takes the kernel as long as clearing it, at one go.
      yield* this.memory.clearSteps();
    } finally {
      if (this.#isOver && this.#attached.size === 0) this.#renew();
    }
  }

  get #isHeldOver(): boolean {
    return this.#isOver && this.#attached.size > 0;
  }

  #renew(): void {
    this.memory.renew();
    this.#isOver = false;
  }
}

function heldOver(): VfioError {
  return new VfioError(
    "EBUSY",
    "a client of this GPU's last owner is still attached to the bridge that shows its memory",
  );
}
