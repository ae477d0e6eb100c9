import type { PciAddress } from "../../src/pci/address.js";
import type { Deviation } from "./fault.js";

/** What a client does to its GPU that has to do with links. */
export type Touch = "clears the disable bits" | "sets all disable bits" | "stops the NVLink engine" | "stops decoding";

/** What may happen next: by a client, by the server, by the hardware, by somebody else. */
export type Action =
  | { kind: "restart" }
  | { kind: "connect" | "ask reset" | "die"; gpu: PciAddress }
  | { kind: "touch"; gpu: PciAddress; touch: Touch }
  /** A reset that the server has begun is over. */
  | { kind: "reset ends"; gpu: PciAddress; fails: boolean }
  /** What an operation waits for is there; by its place among those that run. */
  | { kind: "go on" | "time out"; operation: number; name: string }
  | { kind: "outside reset" | "look"; gpu: PciAddress }
  | { kind: "assign"; to: number }
  | { kind: "kill"; bus: boolean };

/** One step, and what goes wrong within it. */
export type Step = Action & { deviation?: Deviation };

/** Whether a step is a fault of the surroundings, of which a path has only so many. */
export function isFault({ kind, deviation, ...rest }: Step): boolean {
  if (deviation !== undefined || kind === "outside reset" || kind === "kill" || kind === "time out") return true;
  return "fails" in rest && rest.fails;
}
