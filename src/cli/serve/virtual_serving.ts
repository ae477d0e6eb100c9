import type { Serving } from "../../vfio-user/index.js";
import { AssignedFunctions, fenceAndServe } from "./assigned_functions.js";
import type { VirtualServingData } from "./messages.js";
import { stamped } from "./stamped.js";
import { VirtualHardware } from "./virtual_hardware.js";

/**
 * The worker's part of `linkfence serve` for a virtual machine: makes the machine, fences all of it, and says what to
 * serve.
 * @throws UsageError when the plan has problems, `FfiMissingError` where nothing can be served; nothing was touched then
 */
export async function createDevices(data: unknown, tell: (news: unknown) => void): Promise<Serving> {
  // Typed by whoever starts the worker: the same program.
  const virtual = data as VirtualServingData;
  const told = stamped(tell);
  return fenceAndServe(new AssignedFunctions(virtual, (plan) => new VirtualHardware(plan, virtual, told), told));
}
