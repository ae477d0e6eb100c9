import { type GpuReading, type GpuVerification, judge, readGpu } from "../../fence/verify.js";
import { vfioHolders } from "../../host/in_use.js";
import type { GpuPlan, Plan } from "../../isolation/plan.js";
import type { PciAddress } from "../../pci/address.js";
import { askServer } from "../serve/control_client.js";
import type { FenceJson, StatusJson } from "../serve/serving_json.js";
import type { LivePorts } from "./live_ports.js";

/** One GPU of this host held against the plan. */
export interface LiveVerdict extends GpuVerification {
  /** Who read its registers: the server that serves it, this process through `resource0`; null when nobody could. */
  access: "server" | "resource0" | null;
  /** The server is just fencing it anew: until that is over nobody reaches it, and nothing is known. */
  renewing: boolean;
}

/**
 * Reads the GPUs of this host, those that a server serves by asking it, and holds them against the plan.
 * @param ports read only
 */
export async function liveVerdicts(plan: Plan, ports: LivePorts, socketDir: string): Promise<LiveVerdict[]> {
  const served = await servedFences(plan, socketDir);
  const readings = new Map<PciAddress, GpuReading>();
  for (const gpu of plan.gpus) {
    const fence = served.get(gpu.address);
    readings.set(gpu.address, fence === undefined ? readHere(gpu, ports) : readByServer(fence));
  }
  return judge(plan, readings).map((verdict) => {
    const fence = served.get(verdict.address);
    const reader = fence === undefined ? "resource0" : "server";
    return { ...verdict, access: verdict.readable ? reader : null, renewing: fence?.state === "renewing" };
  });
}

/**
 * The fences of the GPUs that a server of this host serves. One that does not answer serves nobody: what its GPUs' registers
 * say is then looked for here.
 */
async function servedFences(plan: Plan, socketDir: string): Promise<Map<PciAddress, FenceJson>> {
  const status = (await askServer(socketDir, { command: "status" }).catch(() => undefined)) as StatusJson | undefined;
  if (status === undefined || status.virtual === true || status.machine !== plan.machine) return new Map();
  return new Map(
    status.functions.flatMap(({ address, socket, fence }) =>
      fence === undefined || socket === null ? [] : [[address, fence] as const],
    ),
  );
}

function readHere(gpu: GpuPlan, ports: LivePorts): GpuReading {
  if (gpu.untouched) return { readable: false, reason: "not to be touched" };
  const reading = readGpu(gpu, () => ports.port(gpu.address));
  if (reading.readable) return reading;
  const [holder] = vfioHolders(gpu.address);
  if (holder === undefined) return reading;
  const reason = `process ${holder} has opened it by VFIO, which resets it, so no fence from before is left (${reading.reason})`;
  return { readable: false, reason };
}

function readByServer({ state, actual, reason }: FenceJson): GpuReading {
  const { disableMask, cut, linksUp } = actual;
  if (cut === null) return { readable: false, reason: reason ?? `the server says that its fence is ${state}` };
  const snapshot = { disableMask: disableMask === null ? null : Number(disableMask), cut, linksUp };
  return { readable: true, evidence: { registers: [] }, snapshot };
}
