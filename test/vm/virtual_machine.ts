import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex, Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { CpioArchive } from "./cpio_archive.js";
import { onLines } from "./lines.js";
import { qemuCommand } from "./qemu_command.js";
import { Qmp } from "./qmp.js";
import type { VmParts } from "./setup.js";

const INIT = fileURLToPath(new URL("guest/init", import.meta.url));

export interface VmOptions {
  /** A shell script that runs in the guest as root; see `guest/init` for what it may use besides busybox. */
  job: string;
  /** Variables of the job. */
  env?: Readonly<Record<string, string>>;
  /** Files and folders of this machine, by the path at which the guest has them. */
  files?: Readonly<Record<string, string>>;
  /** Whether a q35 has Node, the one that runs this; a powernv9 has Debian's, always. */
  node?: boolean;
  /**
   * QEMU's arguments for the devices. On q35 `pcie.0` is the root bus, and slots 0, 1e and 1f are taken; on powernv9 the
   * PHB with index 5 is. They come last: arguments for the memory among them win.
   */
  devices?: readonly string[];
  /** Properties of an `intel-iommu` of a q35, e.g. `caching-mode=on`; absent: no IOMMU. */
  intelIommu?: string;
  /** Further parameters of the guest's kernel. */
  kernelParameters?: readonly string[];
  /** Whether a q35's memory is in a memfd, which QEMU hands to vfio-user servers; else they get messages. */
  sharedMemory?: boolean;
  memoryMb?: number;
  /** Whether a reset of the machine starts it anew, with the same job; else it ends it, so that a crash is no loop. */
  resettable?: boolean;
  /** Seconds after which QEMU is killed. */
  timeoutS: number;
  /** Told each line of the guest's console and of QEMU's stderr. */
  onConsole?: (line: string) => void;
}

/** How a virtual machine ended. */
export interface VmEnd {
  /** The job's exit status; absent when there is none. */
  status?: number;
  /** Why there is none, in a few words, or "done". */
  reason: string;
}

/** Machines that run, with what they have in the file system. */
const running = new Map<ChildProcess, string>();
process.on("exit", () => {
  for (const [qemu, work] of running) {
    qemu.kill("SIGKILL");
    rmSync(work, { recursive: true, force: true });
  }
});

/** A machine in QEMU that runs one script. */
export class VirtualMachine {
  /** Lines of the console and of QEMU's stderr, in the order in which they came. */
  readonly console: string[] = [];
  /** Those of QEMU's stderr alone. */
  readonly complaints: string[] = [];
  /** What the job reported as `result KEY VALUE`. */
  readonly results = new Map<string, string>();
  readonly qmp: Qmp;
  /** Settles, and never rejects, when QEMU is gone. */
  readonly ended: Promise<VmEnd>;
  readonly #qemu: ChildProcess;
  readonly #line: Duplex;
  readonly #steps: string[] = [];
  #status: number | undefined;
  #reason = "QEMU ended before the job did";
  #wake = () => {};

  /** Starts it. What it needs of the file system lasts as long as QEMU. */
  constructor(parts: VmParts, options: VmOptions) {
    const work = mkdtempSync(join(tmpdir(), "linkfence-vm-"));
    const initrd = join(work, "initrd");
    writeInitrd(initrd, parts, options);
    const { program, args } = qemuCommand(parts, initrd, options);
    // Descriptors 3 and 4 are sockets without a name, so that none is left behind.
    this.#qemu = spawn(program, args, { stdio: ["ignore", "pipe", "pipe", "pipe", "pipe"] });
    running.set(this.#qemu, work);
    const [, output, errors, line, qmp] = this.#qemu.stdio;
    const onConsole = (text: string) => {
      this.console.push(text);
      options.onConsole?.(text);
    };
    if (output) onLines(output as Readable, onConsole);
    const onComplaint = (text: string) => {
      this.complaints.push(text);
      onConsole(text);
    };
    if (errors) onLines(errors as Readable, onComplaint);
    this.#line = line as Duplex;
    this.#line.on("error", () => {});
    onLines(this.#line, (text) => this.#receive(text));
    this.qmp = new Qmp(qmp as Duplex);
    const timer = setTimeout(() => this.kill(`no end after ${options.timeoutS} s`), options.timeoutS * 1000);
    this.ended = once(this.#qemu, "close")
      .catch((error: Error) => {
        this.#reason = error.message;
      })
      .then(() => {
        clearTimeout(timer);
        running.delete(this.#qemu);
        rmSync(work, { recursive: true, force: true });
        this.#wake();
        return this.#status === undefined ? { reason: this.#reason } : { status: this.#status, reason: "done" };
      });
  }

  /** QEMU's process. */
  get pid(): number | undefined {
    return this.#qemu.pid;
  }

  /**
   * Waits until the job gets to its next `step`.
   * @throws {Error} when it ends before, or its next step is another
   */
  async reach(name: string): Promise<void> {
    const step = await this.nextStep();
    if (step === undefined) {
      const reason = this.#status === undefined ? (await this.ended).reason : `status ${this.#status}`;
      throw new Error(`the guest did not get to "${name}": ${reason}`);
    }
    if (step !== name) throw new Error(`the guest is at "${step}", not at "${name}"`);
  }

  /** Waits until the job gets to its next `step`, whichever; undefined when it ends before. */
  async nextStep(): Promise<string | undefined> {
    const gone = this.ended.then(() => true);
    while (this.#steps.length === 0) {
      const woken = new Promise<boolean>((resolve) => {
        this.#wake = () => resolve(false);
      });
      if (this.#status !== undefined || (await Promise.race([woken, gone]))) return undefined;
    }
    return this.#steps.shift();
  }

  /** Lets the job go on after a step, which has the answer: one line. */
  proceed(answer = ""): void {
    this.#line.write(`${answer}\n`);
  }

  /** Kills QEMU, as a crash would. */
  kill(reason = "killed"): void {
    this.#reason = reason;
    this.#qemu.kill("SIGKILL");
  }

  #receive(line: string): void {
    const [, word, rest = ""] = /^(\w+) (.*)$/.exec(line) ?? [];
    if (word === "RESULT") {
      const equals = rest.indexOf("=");
      this.results.set(rest.slice(0, equals), rest.slice(equals + 1));
    } else if (word === "STEP") {
      this.#steps.push(rest);
      this.#wake();
    } else if (word === "EXIT") {
      this.#status = Number(rest);
      this.#wake();
      this.proceed();
    }
  }
}

/** The archives behind each other; the last has what is this job's own. */
function writeInitrd(path: string, parts: VmParts, options: VmOptions): void {
  copyFileSync(parts.base, path);
  if (options.node && parts.platform === "q35") appendFileSync(path, readFileSync(parts.node));
  const own = `${path}.own`;
  const archive = new CpioArchive(own);
  archive.file("/init", readFileSync(INIT), true);
  archive.file("/job", options.job);
  const env = Object.entries(options.env ?? {}).map(
    ([name, value]) => `export ${name}='${value.replaceAll("'", "'\\''")}'\n`,
  );
  archive.file("/job.env", env.join(""));
  for (const [name, source] of Object.entries(options.files ?? {})) archive.copy(name, source);
  archive.close();
  appendFileSync(path, readFileSync(own));
}
