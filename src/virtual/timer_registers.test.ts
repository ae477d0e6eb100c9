import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  NV_PTIMER_ALARM_0,
  NV_PTIMER_DENOMINATOR,
  NV_PTIMER_INTR_0,
  NV_PTIMER_INTR_EN_0,
  NV_PTIMER_NUMERATOR,
  NV_PTIMER_TIME_0,
  NV_PTIMER_TIME_1,
  TimerRegisters,
} from "./timer_registers.js";

/** Milliseconds in which the low 32 bits of the time go round. */
const WRAP = 2 ** 32 / 1e6;

/** A timer and the clock that drives it, in milliseconds. */
function timerAt(start = 1000) {
  const clock = { now: start };
  const timer = new TimerRegisters(() => clock.now);
  return { clock, timer };
}

/** The time as a driver reads it, in nanoseconds. */
function timeOf(timer: TimerRegisters): bigint {
  return (BigInt(timer.read(NV_PTIMER_TIME_1) ?? 0) << 32n) | BigInt(timer.read(NV_PTIMER_TIME_0) ?? 0);
}

test("the time is nanoseconds since the reset, in steps of 32", () => {
  const { clock, timer } = timerAt();
  assert.equal(timeOf(timer), 0n);
  clock.now += 1;
  assert.equal(timeOf(timer), 1_000_000n);
  clock.now += 5000;
  assert.equal(timeOf(timer), 5_001_000_000n);
  clock.now += 0.000_07;
  assert.equal(timeOf(timer) & 31n, 0n);
  timer.reset();
  assert.equal(timeOf(timer), 0n);
});

test("a time that was set goes on from there, through the wrap of its low half and of its high one", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 0xffffffff }),
      fc.integer({ min: 0, max: 0xffffffff }),
      fc.integer({ min: 0, max: 1e9 }),
      (high, low, milliseconds) => {
        const { clock, timer } = timerAt();
        timer.write(NV_PTIMER_TIME_1, high);
        timer.write(NV_PTIMER_TIME_0, low);
        clock.now += milliseconds;
        const set = (BigInt(high & 0x1fffffff) << 32n) | BigInt(low - (low % 32));
        assert.equal(timeOf(timer), (set + BigInt(milliseconds) * 1_000_000n) % (1n << 61n));
      },
    ),
  );
});

test("the alarm's interrupt is pending from its time on until a 1 is written, whether or not it is enabled", () => {
  const { clock, timer } = timerAt();
  timer.write(NV_PTIMER_ALARM_0, 2_000_000);
  assert.equal(timer.read(NV_PTIMER_ALARM_0), 2_000_000);
  clock.now += 1.999;
  assert.equal(timer.read(NV_PTIMER_INTR_0), 0);
  clock.now += 0.001;
  assert.equal(timer.read(NV_PTIMER_INTR_0), 1);
  assert.equal(timer.isInterrupting, false);
  timer.write(NV_PTIMER_INTR_EN_0, 1);
  assert.equal(timer.isInterrupting, true);
  timer.write(NV_PTIMER_INTR_0, 0xfffffffe);
  assert.equal(timer.read(NV_PTIMER_INTR_0), 1);
  timer.write(NV_PTIMER_INTR_0, 1);
  assert.equal(timer.read(NV_PTIMER_INTR_0), 0);
  clock.now += WRAP - 1;
  assert.equal(timer.read(NV_PTIMER_INTR_0), 0, "once in each round of the counter");
  clock.now += 1;
  assert.equal(timer.read(NV_PTIMER_INTR_0), 1);
});

test("an alarm whose time is over comes after the low 32 bits have gone round, not at once", () => {
  const { clock, timer } = timerAt();
  clock.now += 100;
  timer.write(NV_PTIMER_INTR_EN_0, 1);
  timer.write(NV_PTIMER_ALARM_0, 40_000_000);
  const wait = timer.untilInterrupt;
  assert.ok(wait !== undefined && Math.abs(wait - (WRAP - 60)) < 0.001, `${wait}`);
  clock.now += WRAP - 61;
  assert.equal(timer.read(NV_PTIMER_INTR_0), 0);
  clock.now += 2;
  assert.equal(timer.read(NV_PTIMER_INTR_0), 1);
});

test("what an alarm is waited for agrees with when it comes, whatever time was set", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 0xffffffff }),
      fc.integer({ min: 0, max: 0xffffffff }),
      fc.integer({ min: 0, max: 10_000 }),
      (time, alarm, later) => {
        const { clock, timer } = timerAt();
        clock.now += later;
        timer.write(NV_PTIMER_TIME_0, time);
        // That may have met the alarm that was there.
        timer.write(NV_PTIMER_INTR_0, 1);
        timer.write(NV_PTIMER_INTR_EN_0, 1);
        timer.write(NV_PTIMER_ALARM_0, alarm);
        const wait = timer.untilInterrupt;
        if (wait === undefined) {
          assert.equal(timer.isInterrupting, true);
          assert.equal(time >>> 5, alarm >>> 5);
          return;
        }
        assert.ok(wait > 0 && wait <= WRAP);
        clock.now += wait - Math.min(wait, 0.0001);
        assert.equal(timer.isInterrupting, false);
        clock.now += 0.0002;
        assert.equal(timer.isInterrupting, true);
        assert.equal(timer.untilInterrupt, undefined);
      },
    ),
  );
});

test("an alarm that was set and is left alone comes even when nobody looked for many rounds", () => {
  const { clock, timer } = timerAt();
  timer.write(NV_PTIMER_ALARM_0, 64);
  clock.now += 100 * WRAP;
  assert.equal(timer.read(NV_PTIMER_INTR_0), 1);
  timer.write(NV_PTIMER_INTR_0, 1);
  assert.equal(timer.read(NV_PTIMER_INTR_0), 0);
});

test("a reset disables the alarm and forgets that it came", () => {
  const { clock, timer } = timerAt();
  timer.write(NV_PTIMER_INTR_EN_0, 1);
  timer.write(NV_PTIMER_ALARM_0, 32);
  clock.now += 1;
  assert.equal(timer.isInterrupting, true);
  timer.reset();
  for (const at of [NV_PTIMER_INTR_0, NV_PTIMER_INTR_EN_0, NV_PTIMER_ALARM_0]) assert.equal(timer.read(at), 0);
  assert.equal(timer.untilInterrupt, undefined);
});

test("the ratio registers keep 16 bits and do not change how fast the time goes", () => {
  const { clock, timer } = timerAt();
  timer.write(NV_PTIMER_NUMERATOR, 0x1_0008);
  timer.write(NV_PTIMER_DENOMINATOR, 3);
  assert.deepEqual([timer.read(NV_PTIMER_NUMERATOR), timer.read(NV_PTIMER_DENOMINATOR)], [8, 3]);
  clock.now += 1;
  assert.equal(timeOf(timer), 1_000_000n);
});

test("offsets without a register of the timer are somebody else's", () => {
  const { timer } = timerAt();
  for (const at of [0x9000, 0x9404, 0x9428, 0x9ffc]) {
    assert.equal(timer.read(at), undefined);
    assert.equal(timer.write(at, 1), false);
  }
});
