/**
 * `linkfence serve` with two assignments of one V100 each: a guest with a whole one, and a guest with nothing but the
 * other's NPU bridges while the host holds that GPU; then assignments come and go beside the first guest.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import type { CheckReport } from "../check_report.js";
import { guestFiles } from "../guest_files.js";
import { type CheckContext, runCheck } from "../run_check.js";
import { VirtualMachine, type VmOptions } from "../virtual_machine.js";
import { CoherentRam } from "./coherent_ram.js";
import { firstLook } from "./first_look.js";
import { LinkfenceServer } from "./linkfence_server.js";
import { checkConfigLists, checkDetails, checkListing, checkNumbers } from "./lspci_listing.js";
import { checkQuiet } from "./quiet_qemu.js";

/** Seconds for each part; alone on two processors they take a third of that. */
const ONE_GUEST_BUDGET = 150;
const RAM_BUDGET = 70;
const CHANGES_BUDGET = 70;

/** The Sequoia's GPU0 alone: links 0 and 4 lead to GPU1, 2 and 3 to GPU2, 1 and 5 to the processor. */
const MASK = 0x001d0000;
const FOREIGN_LINKS = [0, 2, 3, 4];
const GPU2_MASK = 0x00170000;

const GUEST_FILES = guestFiles({ v100: "v100/guest" });
const GUEST = "node /linkfence/guest/v100/one_v100_guest.mjs";

/** What the guest does when it is first up, and after a reset of the machine. */
const JOB = `step up
case "$answer" in
first) ${GUEST} firstAccess lspci identity views bandwidth timer; ${GUEST} resets hostile leave ;;
again) ${GUEST} firstAccess ;;
next) ${GUEST} firstAccess nothingLeft views ;;
esac
step done; sleep 600`;

const FIRST_ACCESS = "the guest's first access finds the mask, and nothing crosses";
const RESETS = ["echo 1 > reset", "reset_subordinate of the port above"].flatMap((name) => [
  `${name}: the first access after it finds the mask, and nothing crosses`,
  `${name}: a thread that reads all the time never finds the mask open`,
]);
const VIEWS = "BAR1, BAR0's window and the bridge's BAR4 show the same bytes";
const WHOLE = [
  FIRST_ACCESS,
  "BOOT_0 of a V100",
  "the kernel has assigned all BARs, the 64-bit ones above 4 GiB",
  "the first bridge shows the GPU's RAM as BAR4, the others do not",
  "the only reset is that of the bus",
  VIEWS,
  "bandwidth: coherent RAM is written at the speed of memory",
  "bandwidth: coherent RAM is read at the speed of memory",
  "vfio-pci in the guest has opened and reset it: the first access finds the mask",
  "as many MSIs as PTIMER alarms",
  "an alarm that is not enabled interrupts nobody until it is",
  ...RESETS,
  "writing 0 to the disable register, in all sizes and places, changes nothing",
  "switching the NVLink engine and the priv ring off and on changes nothing",
  "function level reset and power states change nothing, for there are none",
  "the disable register takes more bits, and loses those to the next reset only",
];
const NEXT = [FIRST_ACCESS, "nothing of the last guest's is in the GPU's memory", VIEWS];

class OneV100Check {
  readonly #report: CheckReport;
  /** The last one is the one that runs. */
  readonly #guests: VirtualMachine[] = [];

  constructor(
    private readonly context: CheckContext,
    private readonly server: LinkfenceServer,
  ) {
    this.#report = context.report;
  }

  async run(): Promise<void> {
    await this.#report.scenario("one V100", ONE_GUEST_BUDGET, this.#guests, () => this.#oneGuest());
    await new CoherentRam(this.context, this.server, "vm2").run(RAM_BUDGET);
    await this.#report.scenario("changes beside a guest", CHANGES_BUDGET, this.#guests, () => this.#changes());
    await checkQuiet(this.#report, "one V100", this.#guests);
    await this.#report.run("nothing went wrong on the server's side, and it ends in good order", async () => {
      const wrong = this.server.events.filter(({ event, step }) => event === "error" || step === "failed");
      assert.deepEqual(wrong, []);
      const renewals = this.server.steps("GPU0", "done");
      assert.equal(await this.server.end(), 0);
      assert.ok(!existsSync(this.server.socketDir), "its sockets are still there");
      return `GPU0 was reset and fenced ${renewals} times`;
    });
  }

  /** Leaves a guest behind that waits at `done`. */
  async #oneGuest(): Promise<void> {
    const first = this.#boot({ intelIommu: "caching-mode=on", resettable: true });
    await this.#fencedBefore("a guest was started", first, "first", 0);
    await first.reach("done");
    this.#listing(first);
    this.#report.addResults("one V100", first.results, WHOLE);
    await this.#guestWritesWereGuarded();
    const before = this.server.steps("GPU0", "done");
    first.results.clear();
    await first.qmp.execute("system_reset");
    await this.#fencedBefore("QEMU system_reset", first, "again", before);
    await first.reach("done");
    this.#report.addResults("QEMU system_reset", first.results, [FIRST_ACCESS]);
    const beforeKill = this.server.steps("GPU0", "done");
    first.kill();
    await first.ended;
    const next = this.#boot({});
    await this.#fencedBefore("QEMU killed and a new one started", next, "next", beforeKill);
    await next.reach("done");
    this.#report.addResults("QEMU killed and a new one started", next.results, NEXT);
  }

  /**
   * While the guest waits for its first access: the GPU was reset and fenced since, the last that was done to it is the
   * end of that, and its registers say so.
   */
  async #fencedBefore(what: string, guest: VirtualMachine, answer: string, before: number): Promise<void> {
    await guest.reach("up");
    await this.#report.run(`${what}: reset, fenced and read back before the guest's first access`, async () => {
      const renewals = this.server.steps("GPU0", "done") - before;
      assert.ok(renewals > 0, "there was no reset");
      assert.equal(this.server.lastStep("GPU0"), "done");
      const fence = (await this.server.status()).functions.find(({ name }) => name === "GPU0")?.fence;
      assert.equal(fence?.state, "in force");
      assert.equal(Number(fence.actual.disableMask), MASK);
      assert.deepEqual(fence.actual.linksUp, [1, 5]);
      return `${renewals} times, links up: ${fence.actual.linksUp}`;
    });
    guest.proceed(answer);
  }

  #listing(guest: VirtualMachine): void {
    const text = (name: string) => Buffer.from(guest.results.get(name) ?? "", "base64").toString("utf8");
    const config = Buffer.from(guest.results.get("config") ?? "", "hex");
    void this.#report.run("lspci -vs as the listing of a real V100", () => checkListing(text("lspci -vs")));
    void this.#report.run("lspci -vvs agrees", () => checkDetails(text("lspci -vvs")));
    void this.#report.run("lspci -nns agrees", () => {
      checkNumbers(text("lspci -nns"));
      return undefined;
    });
    void this.#report.run("the capabilities in config space agree", () => checkConfigLists(config));
  }

  async #guestWritesWereGuarded(): Promise<void> {
    await this.#report.run("the server has told of the guest's writes to the disable register", () => {
      const count = this.server.steps("GPU0", "guarded write");
      assert.ok(count > 0);
      return `${count} writes`;
    });
  }

  /** A guest has GPU0, and goes on as if nothing happened while the rest changes owners. */
  async #changes(): Promise<void> {
    const { server } = this;
    const guest = this.#guests.at(-1);
    const pid = guest?.pid;
    const change = (name: string, command: string, args: string[], then: () => void | Promise<void>) =>
      this.#report.run(name, async () => {
        const before = server.steps("GPU0", "sbr");
        const { status, errors } = await server.command(command, ...args);
        assert.equal(status, 0, errors);
        await then();
        assert.equal(server.steps("GPU0", "sbr"), before, "the guest's GPU was reset");
        await this.#untouched(pid);
        return undefined;
      });
    await change("release vm2 beside a guest of vm1", "release", ["vm2"], () => {
      assert.throws(() => server.assignment("vm2"));
    });
    await change(
      "assign vm2=GPU2 beside it: whoever connects finds it fenced towards GPU0",
      "assign",
      ["vm2=GPU2"],
      () => firstLook(server.assignment("vm2"), GPU2_MASK),
    );
    await change("assign vm3=GPU1,GPU4 beside it", "assign", ["vm3=GPU1,GPU4"], () => {
      assert.equal(server.assignment("vm3").members.join(), "GPU1,GPU4");
    });
    await this.#report.run("an assignment that takes the guest's GPU is refused, and changes nothing", async () => {
      const { status, errors } = await server.command("assign", "vm1=", "vm4=GPU0");
      assert.equal(status, 2);
      await this.#untouched(pid);
      return errors.trim();
    });
    await change("release vm2 and vm3, several at once", "assign", ["vm2=", "vm3="], () => {
      assert.throws(() => server.assignment("vm3"));
    });
    guest?.kill();
    await guest?.ended;
    await this.#report.run("release vm1 when its guest has gone", async () => {
      await server.until(() => server.lastStep("GPU0") === "done", "fence GPU0 again");
      const { status, errors } = await server.command("release", "vm1");
      assert.equal(status, 0, errors);
      return undefined;
    });
  }

  /** The guest is the GPU's client still, and its fence is in force. */
  async #untouched(pid: number | undefined): Promise<void> {
    const gpu0 = (await this.server.status()).functions.find(({ name }) => name === "GPU0");
    assert.equal(gpu0?.client?.pid, pid);
    assert.equal(gpu0?.fence?.state, "in force");
    assert.equal(Number(gpu0.fence.actual.disableMask), MASK);
  }

  #boot(options: Partial<VmOptions>): VirtualMachine {
    const guest = new VirtualMachine(this.context.parts, {
      job: JOB,
      env: { MASK: String(MASK), FOREIGN: FOREIGN_LINKS.join() },
      files: GUEST_FILES,
      node: true,
      devices: this.server.qemu("vm1"),
      timeoutS: ONE_GUEST_BUDGET + RAM_BUDGET + CHANGES_BUDGET,
      ...options,
    });
    this.#guests.push(guest);
    return guest;
  }
}

await runCheck(async (context) => {
  const assign = ["--assign", "vm1=GPU0", "--assign", "vm2=GPU3"];
  const server = await LinkfenceServer.start(["--machine", "sequoia", ...assign, "--ram-as-bar"], context.folder);
  await new OneV100Check(context, server).run();
});
