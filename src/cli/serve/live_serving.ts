import type { Serving } from "../../vfio-user/index.js";
import { AssignedFunctions, fenceAndServe } from "./assigned_functions.js";
import { LiveHardware } from "./live_hardware.js";
import type { LiveServingData } from "./messages.js";
import { stamped } from "./stamped.js";

/**
 * The worker's part of `linkfence serve --live`: opens the functions, which vfio-pci has already, fences the GPUs among
 * them, and says what to serve.
 * @throws UsageError when the plan has problems, HostError or VfioError when a function cannot be opened; all that was
 * opened is closed then
 */
export async function createDevices(data: unknown, tell: (news: unknown) => void): Promise<Serving> {
  // Typed by whoever starts the worker: the same program.
  const live = data as LiveServingData;
  const told = stamped(tell);
  return fenceAndServe(new AssignedFunctions(live, (plan) => new LiveHardware(plan, live, told), told));
}
