/**
 * Attaches the example device (`examples/copy_engine.ts`) to QEMU, with and without an IOMMU, and has a Linux guest use
 * it; kills QEMU and the server in turn. Exit status: 0 all passed, 1 something failed, 77 this machine cannot do it.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { CheckReport } from "../check_report.js";
import { guestFiles } from "../guest_files.js";
import { type CheckContext, runCheck } from "../run_check.js";
import { VirtualMachine, type VmOptions } from "../virtual_machine.js";
import { checkConfig, checkLspci } from "./config_check.js";
import { ServerProcess } from "./server_process.js";

/** Seconds for one machine; it takes ten when nothing else runs. */
const BUDGET = 90;

const GUEST_FILES = guestFiles({ "copy_engine_guest.mjs": "vfio_user/copy_engine_guest.mjs" });

const BARS = ["registers", "trapped", "mapped"];
const WITHOUT_IOMMU = ["dma", "dma to nowhere", "intx"];

/** Runs these parts of `copy_engine_guest.mjs` one after the other, all of them whatever comes of each. */
function job(...parts: string[]): string {
  return `node /linkfence/guest/copy_engine_guest.mjs ${parts.join(" ")}\n`;
}

class VfioUserCheck {
  readonly #report: CheckReport;
  readonly #socket: string;

  constructor(private readonly context: CheckContext) {
    this.#report = context.report;
    this.#socket = join(context.folder, "copy-engine.sock");
  }

  async run(): Promise<void> {
    const first = await ServerProcess.start(this.#socket);
    await this.#withIommu(first);
    await this.#withoutIommu(first);
    const second = await ServerProcess.start(this.#socket);
    await this.#restarted(second);
  }

  /** The guest reaches the device through an IOMMU of its own. QEMU is killed at the end; the server lives. */
  async #withIommu(server: ServerProcess): Promise<void> {
    const name = "with intel-iommu";
    const before = server.holdings();
    const script = `${job("config", "bars", "reset", "vfio")} step "kill QEMU"; sleep 60`;
    const vm = this.#boot({ job: script, sharedMemory: true, intelIommu: "caching-mode=on" });
    await this.#scenario(name, vm, async () => {
      await this.#mapped(name, vm, server);
      await vm.reach("kill QEMU");
      this.#config(name, vm);
      this.#report.addResults(name, vm.results, [...BARS, "reset", "vfio", ...WITHOUT_IOMMU, "msi-x", "vfio reset"]);
      vm.kill();
      await vm.ended;
    });
    await this.#report.run("QEMU was killed: the server lives", async () => {
      await server.awaitDisconnects(1);
      assert.ok(server.isRunning);
      assert.equal(server.holdings(), before);
      return `and holds what it held before, ${before}`;
    });
  }

  /** QEMU again, on the same server, which is killed at the end; the guest lives. */
  async #withoutIommu(server: ServerProcess): Promise<void> {
    const name = "without an IOMMU";
    const script = job("config", "bars", "reset", "uio", "rawMsix", "orphan");
    const vm = this.#boot({ job: script, sharedMemory: true });
    await this.#scenario(name, vm, async () => {
      await this.#mapped(name, vm, server);
      await vm.reach("kill the server");
      assert.ok(server.hasGuestMemory(), "QEMU has not handed over the guest's memory");
      await server.end("SIGKILL");
      vm.proceed();
      const end = await vm.ended;
      this.#config(name, vm);
      this.#report.addResults(name, vm.results, [...BARS, "reset", ...WITHOUT_IOMMU, "msi-x", "without a server"]);
      this.#report.add(
        "the server was killed: the guest ends in good order",
        end.reason === "done" ? undefined : end.reason,
      );
    });
  }

  /** A new server where the old one was; DMA by messages; the machine is reset under way. */
  async #restarted(server: ServerProcess): Promise<void> {
    const name = "a new server, DMA by messages";
    const again = `${name}, after a reset of the machine`;
    const vm = this.#boot({ job: `${job("uio")} step done`, resettable: true });
    await this.#scenario(name, vm, async () => {
      await vm.reach("done");
      assert.ok(!server.hasGuestMemory(), "DMA does not go by messages");
      this.#report.addResults(name, vm.results, WITHOUT_IOMMU);
      vm.results.clear();
      await vm.qmp.execute("system_reset");
      await vm.reach("done");
      this.#report.addResults(again, vm.results, WITHOUT_IOMMU);
      vm.proceed();
      const { status, reason } = await vm.ended;
      assert.equal(status, 0, reason);
    });
    await this.#report.run("QEMU ended: the server lives, and stops when it is told to", async () => {
      await server.awaitDisconnects(1);
      assert.ok(server.isRunning);
      await server.end("SIGTERM");
      assert.ok(!existsSync(this.#socket), "its socket is still there");
      return undefined;
    });
  }

  #boot(options: Omit<VmOptions, "timeoutS">): VirtualMachine {
    const socket = { type: "unix", path: this.#socket };
    const device = { driver: "vfio-user-pci", bus: "port1", rombar: 0, socket };
    const devices = [
      ["-device", "pcie-root-port,id=port1,bus=pcie.0,chassis=1,slot=1,addr=3.0"],
      ["-device", JSON.stringify(device)],
    ].flat();
    return new VirtualMachine(this.context.parts, {
      ...options,
      devices,
      files: GUEST_FILES,
      node: true,
      timeoutS: BUDGET,
    });
  }

  #scenario(name: string, vm: VirtualMachine, run: () => Promise<void>): Promise<void> {
    return this.#report.scenario(name, BUDGET, [vm], run);
  }

  /** While the guest waits in its check of mapped memory: looks at the same memory in the server and in QEMU. */
  async #mapped(name: string, vm: VirtualMachine, server: ServerProcess): Promise<void> {
    await vm.reach("mapped");
    await this.#report.run(`${name}: mapped memory, from the server's side`, () => {
      const maps = readFileSync(`/proc/${vm.pid}/maps`, "utf8");
      assert.match(maps, /\/memfd:copy-engine/, "QEMU has not mapped it");
      return server.memory((memory) => {
        assert.equal(memory.read(0x8000, 14), "from the guest");
        memory.write(0x9000, "from the host");
        return "QEMU maps the server's memfd, where the guest's bytes are";
      });
    });
    vm.proceed();
  }

  #config(name: string, vm: VirtualMachine): void {
    const value = (key: string) => vm.results.get(key) ?? "";
    void this.#report.run(`${name}: config space`, () => checkConfig(Buffer.from(value("config"), "hex")));
    void this.#report.run(`${name}: lspci -vv`, () =>
      checkLspci(Buffer.from(value("lspci"), "base64").toString("utf8")),
    );
  }
}

await runCheck((context) => new VfioUserCheck(context).run());
