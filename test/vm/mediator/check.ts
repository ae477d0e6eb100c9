/**
 * Serves GPUs of a real kernel through fences, and has clients on the same host use them; the hardware, whose word counts, is
 * a virtual machine's in this process, attached to that kernel by QEMU. Exit status: 0 all passed, 1 something failed, 77 this
 * machine cannot do it.
 */
import { join } from "node:path";
import { builtinMachine } from "../../../src/machine/builtin.js";
import { startServer } from "../../../src/vfio-user/index.js";
import { guestFiles } from "../guest_files.js";
import { nvlinkText } from "../nvlink_text.js";
import { type CheckContext, runCheck } from "../run_check.js";
import { VirtualMachine } from "../virtual_machine.js";
import type { SeenGpu, WatchedGpusData, WatchedGpusRequest } from "./watched_gpus.js";

const MACHINE = "c4140";
const BUDGET = 240;
const RESULTS = [
  "serve --live without --yes touches nothing",
  "serve --live takes, opens, fences and serves",
  "status and verify read the registers",
  "clients that reset, go and are killed never touch a GPU whose links are not cut",
  "a reset behind its back is noticed and the links are cut again at once",
  "a real config space: the client's BARs and FLR are its own, the mirror of config space too",
  "assignments change while it runs",
  "a function that the host takes away is served no longer, and the others go on",
  "the end: every function has its former driver, and the ledger says so",
];

class MediatorCheck {
  constructor(private readonly context: CheckContext) {}

  async run(): Promise<void> {
    const { report, folder, parts } = this.context;
    const { gpus } = builtinMachine(MACHINE);
    const sockets = Object.fromEntries(gpus.map(({ name }) => [name, join(folder, `${name}.sock`)]));
    const hardware = await startServer({
      module: new URL("./watched_gpus.ts", import.meta.url),
      data: {
        machine: MACHINE,
        sockets,
        assign: ["vm1=GPU0,GPU1", "vm2=GPU2"],
        memorySize: 2 ** 24,
      } satisfies WatchedGpusData,
    });
    const addresses = gpus.map((_, index) => `0000:0${index + 1}:00.0`);
    const vm = new VirtualMachine(parts, {
      job: "node /linkfence/guest/mediator/mediator_guest.mjs",
      env: { GPUS: JSON.stringify(addresses), NVLINK: JSON.stringify(nvlinkText(MACHINE, addresses)) },
      files: guestFiles({ mediator: "mediator/guest", v100: "v100/guest" }),
      node: true,
      intelIommu: "caching-mode=on",
      sharedMemory: true,
      devices: Object.values(sockets).flatMap((path, index) => portWith(path, index)),
      timeoutS: BUDGET,
    });
    const ask = (request: WatchedGpusRequest) => hardware.call(request);
    await report.scenario("mediator", BUDGET, [vm], async () => {
      const answering = answerSteps(vm, ask);
      const { reason } = await vm.ended;
      await answering;
      report.addResults("mediator", vm.results, RESULTS);
      report.add("the guest ended in good order", reason === "done" ? undefined : reason);
    });
    await hardware.stop();
  }
}

/** Answers what the guest asks of its hardware, until it ends. */
async function answerSteps(vm: VirtualMachine, ask: (request: WatchedGpusRequest) => Promise<unknown>): Promise<void> {
  for (;;) {
    const step = await vm.nextStep();
    if (step === undefined) return;
    if (step === "look") vm.proceed(JSON.stringify((await ask({ kind: "seen" })) as SeenGpu[]));
    else {
      const [kind = "", gpu = "", value = ""] = step.split(" ");
      if (kind === "forget") await ask({ kind });
      else if (kind === "silence") await ask({ kind, gpu, silent: value === "on" });
      else if (kind === "blind") await ask({ kind, gpu, blind: value === "on" });
      vm.proceed();
    }
  }
}

/** A root port with a GPU behind it, which gets a bus of its own. */
function portWith(path: string, index: number): string[] {
  const port = `port${index + 1}`;
  const slot = `chassis=${index + 1},slot=${index + 1},addr=${(index + 4).toString(16)}.0`;
  const device = { driver: "vfio-user-pci", bus: port, socket: { type: "unix", path } };
  return ["-device", `pcie-root-port,id=${port},bus=pcie.0,${slot}`, "-device", JSON.stringify(device)];
}

await runCheck((context) => new MediatorCheck(context).run());
