import assert from "node:assert/strict";
import fc from "fast-check";
import { machineFromLspci } from "../../src/machine/from_lspci.js";
import { formatAddress, type PciAddress } from "../../src/pci/address.js";
import { className } from "../../src/pci/class_code.js";
import { decodeFunction } from "../../src/pci/decode_function.js";
import type { PciFunction } from "../../src/pci/function.js";
import { barLine, printed } from "./capability_text.js";
import type { Check } from "./check.js";
import { build, damagedConfigs, shapes } from "./generated_config.js";
import { type Listed, linesByAddress, listed, lspci, nameIn } from "./listing.js";
import type { Tally } from "./tally.js";

/** Functions that lspci is given at once: starting it costs more than one of them. */
const BATCH = 16;

function placed(configs: readonly Uint8Array[]): Map<PciAddress, Uint8Array> {
  return new Map(
    configs.map((config, i) => [
      formatAddress({ domain: 1, bus: 0x10 + (i >> 3), device: i & 7, function: i % 3 }),
      config,
    ]),
  );
}

/** Config spaces full of noise with sound lists in them: all that our decoder says of them is what lspci prints. */
export const soundConfigs: Check = (directory, tally) =>
  fc.property(fc.array(shapes.map(build), { minLength: BATCH, maxLength: BATCH }), (spaces) => {
    const configs = placed(spaces);
    const answers = linesByAddress(lspci(directory, configs, ["-vvv", "-n", "-D"]));
    for (const [address, config] of configs) {
      const fn = decodeFunction(address, config);
      const lines = answers.get(address) ?? [];
      const theirs = listed(lines);
      assert.deepEqual(
        fn.capabilities.map(withoutId),
        theirs.map((each, i) => asOurs(each, fn, i)),
        `${address} ${fn.damage}`,
      );
      assert.deepEqual(fn.damage?.filter((line) => line.includes("capabilit")) ?? [], []);
      comparePrinted(config, fn, theirs, tally);
      compareHeader(config, fn, lines, tally);
      tally.add("config spaces", 1);
    }
  });

/** The same with lists that lead astray: we follow them as far as they are sound and say why no further. */
export const damagedLists: Check = (directory, tally) =>
  fc.property(fc.array(damagedConfigs, { minLength: BATCH, maxLength: BATCH }), (spaces) => {
    const configs = placed(spaces);
    const answers = answersThatCome(directory, configs);
    for (const [address, config] of configs) {
      const fn = decodeFunction(address, config);
      const answer = answers.get(address);
      if (answer === undefined) {
        tally.add("that lspci dies of", 1);
        continue;
      }
      const theirs = listed(answer);
      const broken = theirs.filter(({ text }) => /^<chain (looped|broken)>/.test(text));
      const sound = theirs.filter((each) => !broken.includes(each));
      const complaint = fn.damage?.find((line) => line.includes("capabilit"));
      for (const extended of [false, true]) {
        const ours = fn.capabilities.filter((each) => each.extended === extended);
        const their = sound.filter((each) => each.extended === extended);
        const names = their.slice(0, ours.length).map((each, i) => asOurs(each, { ...fn, capabilities: ours }, i));
        assert.deepEqual(ours.map(withoutId), names, `${address}: ${fn.damage?.join("; ")}`);
        assert.ok(
          ours.length === their.length || complaint !== undefined,
          `${address}: a list ends early, and nothing is said`,
        );
      }
      assert.ok(
        broken.length === 0 || complaint !== undefined,
        `${address}: lspci finds ${broken[0]?.text}, we do not`,
      );
      tally.add("damaged config spaces", 1);
      if (complaint !== undefined) tally.add("lists found wanting", 1);
      if (broken.length > 0) tally.add("of them by lspci", 1);
    }
  });

/** lspci dies of some lists that lead it where it has read nothing: then each function is listed alone. */
function answersThatCome(directory: string, configs: ReadonlyMap<PciAddress, Uint8Array>): Map<PciAddress, string[]> {
  try {
    return linesByAddress(lspci(directory, configs, ["-vvv", "-n", "-D"]));
  } catch (error) {
    if (configs.size > 1)
      return new Map([...configs].flatMap((each) => [...answersThatCome(directory, new Map([each]))]));
    if (!(error instanceof Error && /Internal bug/.test(error.message))) throw error;
    return new Map();
  }
}

/** Options of listings that say as much of a function as its config space does, and with a dump all of it. */
const LISTINGS: readonly { options: readonly string[]; ids: boolean; dump: boolean }[] = [
  { options: ["-D", "-nn", "-vvv"], ids: true, dump: false },
  { options: ["-D", "-n", "-vv"], ids: true, dump: false },
  { options: ["-D", "-vvv"], ids: false, dump: false },
  { options: ["-D", "-nn", "-vvv", "-xxxx"], ids: true, dump: true },
  { options: ["-D", "-nn", "-xxxx"], ids: true, dump: true },
];

/** What lspci prints, read by our reader of text, gives the machine that the bytes give. */
export const printedConfigs: Check = (directory, tally) =>
  fc.property(fc.array(shapes.map(build), { minLength: BATCH, maxLength: BATCH }), (spaces) => {
    const configs = placed(spaces);
    for (const { options, ids, dump } of LISTINGS) {
      const { functions } = machineFromLspci(lspci(directory, configs, options), "differential");
      assert.deepEqual(functions.map(({ address }) => address).sort(), [...configs.keys()].sort());
      for (const fn of functions) {
        const config = configs.get(fn.address) ?? assert.fail();
        const decoded = decodeFunction(fn.address, config);
        const bars = fn.bars.filter(({ index }) => !isHalf(decoded, index));
        // Later lists of names than ours have names for more classes.
        if (!ids && className(decoded.classCode ?? 0).endsWith("]")) delete decoded.classCode;
        // lspci cuts long names, and the numbers behind them with them.
        const hasIds = ids && !(fn.vendorId === undefined && fn.name?.endsWith("..."));
        const [text, bytes] = [facts({ ...fn, bars }, hasIds, dump), facts(decoded, hasIds, dump)];
        if (decoded.classCode === undefined) delete text.classCode;
        // lspci prints the register where it says that nothing is connected; on a host it has the kernel's number.
        if (decoded.irq === undefined) delete text.irq;
        assert.deepEqual(text, bytes, `lspci ${options.join(" ")}: ${fn.address}`);
        tally.add("listed functions", 1);
        tally.add("facts", Object.values(text).flatMap((each) => (Array.isArray(each) ? each : [each])).length);
      }
    }
  });

/** A 64-bit base address in the last register, which lspci lists without an address, and we call damage. */
function isHalf({ damage = [] }: PciFunction, index: PciFunction["bars"][number]["index"]): boolean {
  return damage.some((line) => line.startsWith(`BAR ${index} at `) && line.includes("no register for its upper half"));
}

/** What a listing can tell of a function. */
function facts(fn: PciFunction, ids: boolean, dump: boolean): Record<string, unknown> {
  const { name: _, damage: __, irq, multifunction, vendorId, deviceId, subsystemVendorId, subsystemId, ...rest } = fn;
  return {
    ...rest,
    // lspci leaves a revision of 0 out, and has one name for two ids.
    revision: fn.revision ?? 0,
    capabilities: fn.capabilities.map((each) => (each.id === 0x09 && each.extended ? { ...each, id: 0x02 } : each)),
    ...(ids && { vendorId, deviceId, subsystemVendorId, subsystemId }),
    ...(dump && { multifunction }),
    ...(irq !== undefined && { irq }),
  };
}

function withoutId({ offset, extended, name }: PciFunction["capabilities"][number]): unknown {
  return { offset, extended, name };
}

function asOurs({ offset, extended, text }: Listed, fn: PciFunction, at: number): unknown {
  return { offset, extended, name: nameIn(text, fn.capabilities[at]?.name ?? "") };
}

/** Every field of every capability that we decode. */
function comparePrinted(config: Uint8Array, fn: PciFunction, theirs: readonly Listed[], tally: Tally): void {
  for (const [i, capability] of fn.capabilities.entries()) {
    const text = `${theirs[i]?.text}\n${theirs[i]?.details}`;
    tally.add("capabilities", 1);
    tally.see("capability ids", `${capability.extended} ${capability.id}`);
    for (const piece of printed(config, fn, capability)) {
      assert.ok(text.includes(piece), `${fn.address} ${capability.name}: no ${JSON.stringify(piece)} in\n${text}`);
      tally.add("printed pieces", 1);
      tally.see("kinds of capabilities decoded", `${capability.extended} ${capability.id}`);
    }
  }
}

/** Ids, class, revision, base addresses, bus numbers and interrupt. */
function compareHeader(config: Uint8Array, fn: PciFunction, lines: readonly string[], tally: Tally): void {
  const has = (expected: string, found: boolean) => {
    assert.ok(found, `${fn.address}: no ${JSON.stringify(expected)} in\n${lines.join("\n")}`);
    tally.add("printed pieces", 1);
  };
  for (const bar of fn.bars) {
    const expected = barLine(bar, config);
    has(
      expected,
      lines.some((line) => line === expected || (bar.index === "rom" && line.startsWith(expected))),
    );
  }
  for (const expected of headerPieces(fn))
    has(
      expected,
      lines.some((line) => line.includes(expected)),
    );
}

function headerPieces({ vendorId = 0, deviceId = 0, classCode = 0, revision = 0, ...fn }: PciFunction): string[] {
  const hex = (value: number, digits: number) => value.toString(16).padStart(digits, "0");
  const pieces = [`${fn.address} ${hex(classCode >>> 8, 4)}: ${hex(vendorId, 4)}:${hex(deviceId, 4)}`];
  if (revision !== 0) pieces.push(` (rev ${hex(revision, 2)})`);
  if ((classCode & 0xff) !== 0) pieces.push(` (prog-if ${hex(classCode & 0xff, 2)}`);
  if (fn.subsystemVendorId !== undefined)
    pieces.push(`\tSubsystem: ${hex(fn.subsystemVendorId, 4)}:${hex(fn.subsystemId ?? 0, 4)}`);
  if (fn.irq !== undefined) pieces.push(` routed to IRQ ${fn.irq}`);
  if (fn.buses !== undefined) {
    const { primary, secondary, subordinate } = fn.buses;
    pieces.push(
      `\tBus: primary=${hex(primary, 2)}, secondary=${hex(secondary, 2)}, subordinate=${hex(subordinate, 2)}, `,
    );
  }
  return pieces;
}
