/**
 * linkfence on POWER9, bare metal: its commands on the live host, whose capture is then read back here, and a device's DMA
 * through the IOMMU that POWER has. Exit status: 0 all passed, 1 something failed, 77 this machine cannot do it.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import type { Audit } from "../../../src/isolation/findings.js";
import type { Isolation } from "../../../src/isolation/isolation.js";
import { conforming } from "../../cli/json_schema.js";
import { assertSameSets, setsWith } from "../groups/guest_findings.js";
import { guestFiles, ROOT } from "../guest_files.js";
import { type CheckContext, runCheck } from "../run_check.js";
import { runCommand } from "../run_command.js";
import { VirtualMachine } from "../virtual_machine.js";
import { setUpPower9 } from "./setup.js";

/** Seconds; alone on two processors it takes 80. */
const BUDGET = 220;

/** Two PHBs, one with an NVMe, one with a switch; edu is to reach all 64 bits of the second DMA window's addresses. */
const DEVICES = [
  "pnv-phb,chip-id=0,index=0,id=phb0",
  "pnv-phb-root-port,bus=phb0,id=port0",
  "nvme,serial=1,bus=port0",
  "pnv-phb,chip-id=0,index=1,id=phb1",
  "pnv-phb-root-port,bus=phb1,id=port1",
  "x3130-upstream,id=upstream,bus=port1",
  "xio3130-downstream,id=downstream1,bus=upstream,chassis=3,slot=3",
  "xio3130-downstream,id=downstream2,bus=upstream,chassis=4,slot=4",
  "nvme,serial=2,bus=downstream1",
  "edu,bus=downstream2,dma_mask=0xffffffffffffffff",
].flatMap((device) => ["-device", device]);

const AUDIT = "audit --live --json";
const GROUPS = "groups --live --json";
const TOPO = "topo --live";
const CAPTURE = "capture --live --out /tmp/host.json --json";
const FIRMWARE = "firmware --device-tree /sys/firmware/fdt";
const COMMANDS = [AUDIT, GROUPS, TOPO, CAPTURE, FIRMWARE];

const EDU = [
  "opened",
  "DMA in the first window",
  "DMA in the second window",
  "what is refused",
  "MSI",
  "reset",
  "nothing is left",
];

/** What `commands_guest.mjs` sends. */
interface GuestFindings {
  functions: string[];
  kernel: string[][];
  commands: Record<string, { status: number; seconds: number; stdout: string; stderr: string }>;
  capture: string;
}

class Power9Check {
  readonly #findings: GuestFindings;

  constructor(
    private readonly context: CheckContext,
    findings: string,
  ) {
    this.#findings = JSON.parse(gunzipSync(Buffer.from(findings, "base64")).toString("utf8"));
  }

  async run(): Promise<void> {
    const { functions, kernel } = this.#findings;
    await this.#command(AUDIT, (text) => {
      const { findings, unknown, notes } = conforming<Audit>("audit", text);
      assert.deepEqual([findings, unknown, notes], [[], [], []]);
      return "nothing crosses, nothing is unknown";
    });
    await this.#command(GROUPS, (text) => {
      const groups = conforming<Isolation>("groups", text);
      assertSameSets(groups.kernel, kernel);
      assertSameSets(setsWith(groups.computed, kernel.flat()), kernel);
      assert.deepEqual(groups.notes, []);
      return `the kernel's ${kernel.length} groups and ours are the same`;
    });
    await this.#command(TOPO, (text) => {
      assert.match(text, new RegExp(`^power9: live host, ${functions.length} PCI functions, 0 GPUs\n$`));
      return text.trim();
    });
    await this.#command(CAPTURE, (text) => {
      assert.deepEqual(conforming("capture", text), { machine: "power9", out: "/tmp/host.json" });
      return "written";
    });
    await this.#readBack();
    await this.#refused(FIRMWARE, /^linkfence: \S+ is no AC922 firmware tree .*\n$/);
  }

  /** A command that passes, and has nothing to complain of. */
  #command(name: string, check: (text: string) => string): Promise<void> {
    return this.context.report.run(`linkfence ${name}`, () => {
      const { status, stdout, stderr, seconds } = this.#output(name);
      assert.equal(stderr, "");
      assert.equal(status, 0);
      return `${check(stdout)}, ${seconds.toFixed(1)} s`;
    });
  }

  /** This machine has no NVLink, and says so. */
  #refused(name: string, words: RegExp): Promise<void> {
    return this.context.report.run(`linkfence ${name}`, () => {
      const { status, stdout, stderr, seconds } = this.#output(name);
      assert.match(stderr, words);
      assert.deepEqual([status, stdout], [2, ""]);
      return `exit status 2, ${stderr.trim()}, ${seconds.toFixed(1)} s`;
    });
  }

  #readBack(): Promise<void> {
    return this.context.report.run("the capture, read back here", async () => {
      const { capture } = this.#findings;
      conforming("capture-file", capture);
      const file = join(this.context.folder, "host.json");
      writeFileSync(file, capture);
      for (const [command, there] of [["audit", AUDIT] as const, ["groups", GROUPS] as const]) {
        const args = [join(ROOT, "dist/cli/main.js"), command, "--capture", file, "--json"];
        const here = (await runCommand(process.execPath, args)).toString("utf8");
        assert.deepEqual(JSON.parse(here), JSON.parse(this.#output(there).stdout), command);
      }
      return `${Math.ceil(capture.length / 1024)} KiB; audit and groups say of it what they said there`;
    });
  }

  #output(name: string): GuestFindings["commands"][string] {
    const output = this.#findings.commands[name];
    assert.ok(output, "did not run");
    return output;
  }
}

await runCheck(async (context) => {
  const { parts, report } = context;
  const program = (name: string) => `node /linkfence/guest/power9/${name}_guest.mjs`;
  const vm = new VirtualMachine(parts, {
    // Emulation has to translate what Node's compiler makes, which takes longer here than it saves.
    env: { COMMANDS: COMMANDS.join("\n"), NODE_OPTIONS: "--jitless" },
    job: `hostname power9; ${program("commands")} && ${program("edu")}`,
    files: { ...guestFiles({ power9: "power9" }), "/linkfence/node_modules/@koromix": parts.koffi },
    devices: DEVICES,
    memoryMb: 2048,
    timeoutS: BUDGET,
  });
  await report.scenario("POWER9", BUDGET, [vm], async () => {
    const end = await vm.ended;
    const findings = vm.results.get("findings");
    assert.ok(findings, `no command has run: ${end.reason}`);
    await new Power9Check(context, findings).run();
    report.addResults("edu", vm.results, EDU);
    assert.equal(end.status, 0, end.reason);
    assert.deepEqual(vm.complaints, [], "QEMU complains");
  });
}, setUpPower9);
