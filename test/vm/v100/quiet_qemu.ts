import assert from "node:assert/strict";
import type { CheckReport } from "../check_report.js";
import type { VirtualMachine } from "../virtual_machine.js";

/**
 * QEMU takes an error that it need not wait for as an answer (`error reply on async request`, a memory map that was
 * refused), says so and runs on without: a guest that seems well may have a function that lacks a part of its memory.
 */
export async function checkQuiet(
  report: CheckReport,
  name: string,
  machines: readonly VirtualMachine[],
): Promise<void> {
  await report.run(`${name}: QEMU has nothing to complain about`, () => {
    const complaints = machines.flatMap(({ complaints }) => complaints);
    assert.deepEqual(complaints, []);
    return undefined;
  });
}
