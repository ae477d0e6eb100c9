import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

/** Where SeaBIOS puts a q35's configuration space, a page for each function (its `src/fw/dev-q35.h`). */
const ECAM = 0xb0000000;
/** PM1 control where SeaBIOS puts it, and SLP_EN with QEMU's SLP_TYP of S5, 0 (ACPI, "PM1 Control Registers"). */
const PM1A_CONTROL = 0x604;
const POWER_OFF = 0x2000;

/**
 * A QEMU whose processor runs the firmware, and whose memory and ports are accessed beside it by QEMU's qtest protocol
 * (system/qtest.c): each access takes the way of one of the processor's.
 */
export class QtestMachine {
  complaints = "";
  #answers = [];
  #waiting = [];

  constructor({ program, args }) {
    const qtest = ["-qtest", "stdio", "-qtest-log", "/dev/null"];
    this.process = spawn(program, [...args, ...qtest], { stdio: ["pipe", "pipe", "pipe"] });
    this.process.stdin.on("error", () => {});
    createInterface({ input: this.process.stdout }).on("line", (line) => {
      this.#answers.push(line);
      this.#settle();
    });
    this.process.stderr.on("data", (data) => {
      this.complaints += data;
    });
    this.ended = new Promise((resolve) => {
      this.process.once("close", (code, signal) => {
        this.exit = code ?? signal;
        this.#settle();
        resolve(this.exit);
      });
    });
  }

  #settle() {
    while (this.#waiting.length > 0 && (this.#answers.length > 0 || this.exit !== undefined)) {
      const { resolve, reject, command } = this.#waiting.shift();
      const answer = this.#answers.shift();
      if (answer?.startsWith("OK")) resolve(Number(answer.slice(3)));
      else reject(new Error(`${command}: ${answer ?? `QEMU ended with ${this.exit}; ${this.complaints}`}`));
    }
  }

  #send(command) {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ command, resolve, reject });
      this.process.stdin.write(`${command}\n`);
      this.#settle();
    });
  }

  readl(address) {
    return this.#send(`readl 0x${address.toString(16)}`);
  }

  async writel(address, value) {
    await this.#send(`writel 0x${address.toString(16)} 0x${value.toString(16)}`);
  }

  /** As a guest's kernel does; QEMU ends. */
  async powerOff() {
    await this.#send(`outw 0x${PM1A_CONTROL.toString(16)} 0x${POWER_OFF.toString(16)}`);
    return this.ended;
  }

  /** Where a dword of a function's configuration space is. */
  config(bus, slot, offset) {
    return ECAM + bus * 2 ** 20 + slot * 2 ** 15 + offset;
  }
}
