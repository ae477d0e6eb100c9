import type { MakeTarget } from "./target.js";

type Load = () => Promise<{ makeTarget: MakeTarget }>;

/** The parsers by name, and how the target of each is loaded. */
export const PARSERS: Readonly<Record<string, Load>> = {
  "device-tree": () => import("./targets/device_tree.js"),
  lspci: () => import("./targets/lspci.js"),
  "nvidia-smi": () => import("./targets/nvidia_smi.js"),
  capture: () => import("./targets/capture.js"),
  ledger: () => import("./targets/ledger.js"),
  "vfio-user": () => import("./targets/vfio_user.js"),
  "vfio-user-stream": () => import("./targets/vfio_user_stream.js"),
};

/** Parsers made up for the fuzzer to be checked by: each has one fault, which has to be found. */
export const PLANTED: Readonly<Record<string, Load>> = Object.fromEntries(
  (["crash", "hang", "quadratic", "memory"] as const).map((fault) => [
    `planted-${fault}`,
    async () => {
      const { makePlanted } = await import("./targets/planted.js");
      return { makeTarget: () => makePlanted(fault) };
    },
  ]),
);
