import assert from "node:assert/strict";
import { test } from "node:test";
import { builtinMachine } from "../machine/builtin.js";
import { VFIO_PCI_MSI_IRQ_INDEX } from "../vfio/constants.js";
import type { DeviceClient } from "../vfio/device.js";
import { VfioError } from "../vfio/error.js";
import type { Steps } from "../vfio/steps.js";
import { GpuInterrupts } from "./gpu_interrupts.js";
import { NV_PMC_INTR, NV_PMC_INTR_EN_CLEAR, NV_PMC_INTR_EN_SET, NV_PMC_INTR_PTIMER } from "./interrupt_registers.js";
import { NV_PTIMER_ALARM_0, NV_PTIMER_INTR_0, NV_PTIMER_INTR_EN_0, NV_PTIMER_TIME_0 } from "./timer_registers.js";
import { VirtualMachine } from "./virtual_machine.js";

const GPU0 = "0004:04:00.0";
const MSI_REARM = 0x88704;
const MSI_CONTROL = 0x6a;
const COMMAND = 0x04;
const INTERRUPT_DISABLE = 0x0400;
const INTERRUPT_STATUS = 0x0008;
const DECODES = 0x0006;

/** A client that counts what it is told, and runs what the device starts when the test says so. */
class CountingClient implements DeviceClient {
  readonly dma = {
    read: (): Steps => {
      throw new VfioError("EFAULT", "no memory");
    },
    write: (): Steps => {
      throw new VfioError("EFAULT", "no memory");
    },
  };
  messages = 0;
  intx = false;
  readonly tasks: { steps: Steps; deadline: number; done: () => boolean }[] = [];

  trigger(index: number, subindex: number): boolean {
    assert.deepEqual([index, subindex], [VFIO_PCI_MSI_IRQ_INDEX, 0]);
    this.messages++;
    return true;
  }

  setIntx(asserted: boolean): void {
    this.intx = asserted;
  }

  start(steps: Steps): void {
    this.#advance(steps);
  }

  /** What the server's loop does after an event, and when a deadline has passed. */
  run(): void {
    for (const task of this.tasks.splice(0)) {
      if (task.done() || performance.now() >= task.deadline) this.#advance(task.steps);
      else this.tasks.push(task);
    }
  }

  cancel(): void {
    for (const { steps } of this.tasks.splice(0)) steps.return();
  }

  #advance(steps: Steps): void {
    const next = steps.next();
    if (next.done === true) return;
    const { deadline, done = () => false } = next.value;
    this.tasks.push({ steps, deadline, done });
  }
}

function served(options: { msi: boolean }) {
  const machine = new VirtualMachine(builtinMachine("sequoia"));
  const gpu = machine.gpu(GPU0);
  const interrupts = new GpuInterrupts(gpu);
  gpu.listener = { interruptsChanged: (rearmed) => interrupts.update(rearmed), unmodelled: () => {} };
  const client = new CountingClient();
  interrupts.attach(client);
  if (options.msi) gpu.writeConfig(MSI_CONTROL, 2, 1);
  const status = () => (gpu.readConfig(COMMAND + 2, 2) & INTERRUPT_STATUS) !== 0;
  /** Sets the alarm so many milliseconds from now. */
  const setAlarm = (milliseconds: number) => {
    const time = gpu.readBar0(NV_PTIMER_TIME_0);
    gpu.writeBar0(NV_PTIMER_ALARM_0, (time + milliseconds * 1e6) >>> 0);
  };
  const enable = () => {
    gpu.writeBar0(NV_PTIMER_INTR_EN_0, 1);
    gpu.writeBar0(NV_PMC_INTR_EN_SET, NV_PMC_INTR_PTIMER);
  };
  return { machine, gpu, interrupts, client, status, setAlarm, enable };
}

/** Runs the client's loop until something holds. */
async function until(client: CountingClient, holds: () => boolean): Promise<void> {
  const end = performance.now() + 20_000;
  while (!holds()) {
    assert.ok(performance.now() < end, "it did not happen");
    await new Promise((resolve) => setTimeout(resolve, 1));
    client.run();
  }
}

function pass(client: CountingClient, milliseconds: number): Promise<void> {
  const end = performance.now() + milliseconds;
  return until(client, () => performance.now() >= end);
}

test("an alarm that is enabled in both places raises one MSI at its time, and no further one by itself", async () => {
  const { gpu, client, setAlarm, enable } = served({ msi: true });
  enable();
  const began = performance.now();
  setAlarm(20);
  assert.equal(client.messages, 0);
  await until(client, () => client.messages > 0);
  assert.ok(performance.now() - began >= 20);
  assert.equal(gpu.readBar0(NV_PMC_INTR), NV_PMC_INTR_PTIMER);
  assert.equal(client.tasks.length, 0, "nothing waits while the alarm is pending");
  await pass(client, 20);
  assert.equal(client.messages, 1);
  gpu.writeBar0(NV_PTIMER_INTR_0, 1);
  assert.equal(gpu.readBar0(NV_PMC_INTR), 0);
  setAlarm(8);
  await until(client, () => client.messages > 1);
  await pass(client, 20);
  assert.equal(client.messages, 2);
  assert.equal(client.intx, false);
});

test("an alarm that is not enabled in both places is waited for by nobody, and is there when it is enabled", async () => {
  const { gpu, client, setAlarm } = served({ msi: true });
  setAlarm(8);
  gpu.writeBar0(NV_PTIMER_INTR_EN_0, 1);
  assert.equal(client.tasks.length, 0);
  await pass(client, 10);
  assert.equal(client.messages, 0);
  gpu.writeBar0(NV_PMC_INTR_EN_SET, NV_PMC_INTR_PTIMER);
  assert.equal(client.messages, 1);
});

test("an alarm that is moved comes at its new time, and one that is disabled not at all", async () => {
  const { gpu, client, setAlarm, enable } = served({ msi: true });
  enable();
  setAlarm(4000);
  setAlarm(10);
  assert.equal(client.tasks.length, 1, "one wait, however often the alarm moves");
  const began = performance.now();
  await until(client, () => client.messages > 0);
  assert.ok(performance.now() - began < 3000);
  gpu.writeBar0(NV_PTIMER_INTR_0, 1);
  setAlarm(10);
  gpu.writeBar0(NV_PTIMER_INTR_EN_0, 0);
  await pass(client, 20);
  assert.equal(client.messages, 1);
  assert.equal(client.tasks.length, 0);
});

test("without MSI the line is asserted until the driver acknowledges, and config space says that it is this function's", async () => {
  const { gpu, client, status, setAlarm, enable } = served({ msi: false });
  enable();
  setAlarm(8);
  await until(client, () => client.intx);
  assert.equal(status(), true);
  gpu.writeConfig(COMMAND, 2, DECODES | INTERRUPT_DISABLE);
  assert.deepEqual([client.intx, status()], [false, true], "disabled, and still pending");
  gpu.writeConfig(COMMAND, 2, DECODES);
  assert.equal(client.intx, true);
  gpu.writeBar0(NV_PTIMER_INTR_0, 1);
  assert.deepEqual([client.intx, status(), client.messages], [false, false, 0]);
});

test("MSI that is enabled while an interrupt is pending takes it over from the line", async () => {
  const { gpu, client, status, setAlarm, enable } = served({ msi: false });
  enable();
  setAlarm(8);
  await until(client, () => client.intx);
  gpu.writeConfig(MSI_CONTROL, 2, 1);
  assert.deepEqual([client.intx, status(), client.messages], [false, false, 1]);
});

test("re-arming while an interrupt is still pending brings the next MSI, and otherwise none", async () => {
  const { gpu, client, setAlarm, enable } = served({ msi: true });
  enable();
  gpu.writeBar0(MSI_REARM, 0);
  assert.equal(client.messages, 0);
  setAlarm(8);
  await until(client, () => client.messages === 1);
  gpu.writeBar0(MSI_REARM, 0);
  assert.equal(client.messages, 2);
  gpu.writeBar0(NV_PTIMER_INTR_0, 1);
  gpu.writeBar0(MSI_REARM, 0);
  assert.equal(client.messages, 2);
});

test("a handler that disables, re-arms, acknowledges and enables again, as nouveau's does, gets each interrupt once", async () => {
  const { gpu, client, setAlarm, enable } = served({ msi: true });
  enable();
  for (let turn = 1; turn <= 3; turn++) {
    setAlarm(8);
    await until(client, () => client.messages === turn);
    gpu.writeBar0(NV_PMC_INTR_EN_CLEAR, 0xffffffff);
    gpu.writeBar0(MSI_REARM, 0);
    gpu.writeBar0(NV_PTIMER_INTR_0, 1);
    gpu.writeBar0(NV_PMC_INTR_EN_SET, NV_PMC_INTR_PTIMER);
    assert.equal(client.messages, turn);
  }
});

test("an interrupt that a client left pending is there for the next, and a wait that was cancelled begins again", async () => {
  const { interrupts, client, setAlarm, enable } = served({ msi: true });
  enable();
  setAlarm(10);
  assert.equal(client.tasks.length, 1);
  client.cancel();
  interrupts.detach();
  const next = new CountingClient();
  interrupts.attach(next);
  assert.equal(next.tasks.length, 1);
  await until(next, () => next.messages > 0);
  interrupts.detach();
  const last = new CountingClient();
  interrupts.attach(last);
  assert.deepEqual([last.messages, last.tasks.length, client.messages], [1, 0, 0]);
});

test("a reset takes the line down, and the alarm that was set does not come any more", async () => {
  const { machine, client, setAlarm, enable } = served({ msi: false });
  enable();
  setAlarm(8);
  await until(client, () => client.intx);
  machine.secondaryBusReset(GPU0, "firmware");
  assert.equal(client.intx, false);
  await pass(client, 10);
  assert.deepEqual([client.intx, client.messages, client.tasks.length], [false, 0, 0]);
});
