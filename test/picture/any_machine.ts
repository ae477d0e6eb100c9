import fc from "fast-check";
import type { Assignment, Bridge, FarEnd, Gpu, IommuGroup, Link, Machine } from "../../src/machine/machine.js";
import { LINK_DISABLE, NV_PMC_ENABLE } from "../../src/machine/part.js";
import type { PciFunction } from "../../src/pci/function.js";
import { machineOf, made, port } from "../made_up_machine.js";

/** A machine and who owns what in it. */
export interface Drawn {
  machine: Machine;
  assignments: Assignment[];
}

/** Names as captures may have them: any text without control characters, long, in any script, with markup. */
const name = fc.oneof(
  fc.constantFrom("GPU", "<b>&\"'", "]]>", "\u202egnp", "日本語の名前", "\ud800", "x".repeat(300), "﷽"),
  fc.string({ minLength: 1, maxLength: 30, unit: "binary" }).map((text) => text.replace(/[\p{Cc}\p{Zl}\p{Zp}]/gu, "x")),
);

const shape = fc.record({
  gpus: fc.integer({ min: 0, max: 9 }),
  bridges: fc.integer({ min: 0, max: 6 }),
  switches: fc.array(name, { maxLength: 3 }),
  powernv: fc.boolean(),
  names: fc.array(name, { minLength: 9, maxLength: 9 }),
  /** Links that both ends agree on, by the places of their GPUs. */
  joined: fc.array(fc.tuple(fc.nat(8), fc.nat(8)), { maxLength: 16 }),
  owners: fc.uniqueArray(fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$/), { maxLength: 9 }),
});

/** Any machine that a capture can describe, sound or not: links that contradict each other, deep trees, odd names. */
export const anyMachine: fc.Arbitrary<Drawn> = shape.chain((told) => {
  const addresses = Array.from({ length: told.gpus }, (_, index) => `0000:${(0x40 + index).toString(16)}:00.0`);
  const bridges = Array.from({ length: told.bridges }, (_, index) => `0006:00:0${index}.0`);
  const pick = (values: readonly string[]) =>
    values.length === 0 ? fc.constant("0000:99:00.0") : fc.constantFrom(...values);
  const linkNumber = fc.oneof({ weight: 9, arbitrary: fc.nat(7) }, fc.constantFrom(17, 255));
  const far: fc.Arbitrary<FarEnd> = fc.oneof(
    {
      weight: 6,
      arbitrary: fc
        .record({ gpu: pick(addresses), link: linkNumber })
        .map((end) => ({ kind: "gpu", ...end }) as FarEnd),
    },
    { weight: 2, arbitrary: pick(addresses).map((gpu): FarEnd => ({ kind: "gpu", gpu })) },
    { weight: 2, arbitrary: pick(bridges).map((bridge): FarEnd => ({ kind: "bridge", bridge })) },
    { weight: 2, arbitrary: pick(told.switches).map((one): FarEnd => ({ kind: "switch", switch: one })) },
    fc.constant<FarEnd>({ kind: "unknown" }),
    fc.constant<FarEnd>({ kind: "none" }),
  );
  const link = fc.record({
    number: linkNumber,
    far,
    state: fc.constantFrom<Link["state"]>("up", "down", "cut", "unknown"),
    mask: fc.option(fc.nat(0xff)),
    assumed: fc.boolean(),
  });
  const gpu = fc.record({
    links: fc.oneof(fc.array(link, { maxLength: 0 }), fc.array(link, { maxLength: 6 })),
    mask: fc.constantFrom(null, 0, 0x0f, 0xf0, 0xff),
    part: fc.constantFrom<Gpu["part"]>("GV100", "GA100", "GP100", "unknown"),
    numaNode: fc.option(fc.constantFrom(-1, 0, 1, 8), { nil: undefined }),
    depth: fc.oneof({ weight: 9, arbitrary: fc.nat(4) }, fc.constant(40)),
    owner: fc.nat(12),
    group: fc.nat(3),
  });
  const bridgeGpu = fc.option(pick(addresses), { nil: undefined });
  return fc
    .record({
      gpus: fc.array(gpu, { minLength: told.gpus, maxLength: told.gpus }),
      bridgeGpus: fc.array(bridgeGpu, { minLength: 6, maxLength: 6 }),
      grouped: fc.boolean(),
    })
    .map(({ gpus, bridgeGpus, grouped }): Drawn => {
      const functions: PciFunction[] = [];
      const agreed = agreedLinks(addresses, told.joined);
      const made_up = gpus.map((one, index): Gpu => {
        const address = addresses[index] ?? "";
        functions.push(...path(address, index, one.depth, one.numaNode));
        return {
          address,
          name: index % 2 === 0 ? address : `${index}${told.names[index]}`,
          part: one.part,
          nvlink: "present",
          bridges: [],
          origin: "wiring",
          links: [
            ...(agreed[index] ?? []).map((link) => ({ ...link, ...(one.mask !== null && evidence(one.mask)) })),
            ...one.links.map(({ mask, ...rest }): Link => {
              return { ...rest, origin: "wiring", ...(mask !== null && evidence(mask)) };
            }),
          ],
        };
      });
      const made_bridges = bridges.map((address, index): Bridge => {
        const owner = bridgeGpus[index];
        functions.push(made(address, { parent: null }));
        return {
          address,
          linkIndex: index,
          npu: `/npu/${told.names[index]}`,
          origin: "wiring",
          ...(owner !== undefined && { gpu: owner }),
        };
      });
      const groups = [0, 1, 2, 3].flatMap((id): IommuGroup[] => {
        const members = addresses.filter((_, index) => gpus[index]?.group === id);
        return members.length === 0 ? [] : [{ id: id * 1000, members }];
      });
      return {
        machine: machineOf(made_up, {
          functions,
          bridges: made_bridges,
          platform: told.powernv ? "powernv" : "pc",
          name: told.names[0] ?? "",
          source: told.names.join(" "),
          ...(grouped && { groups }),
        }),
        assignments: told.owners.map((owner, at) => ({
          name: owner,
          members: addresses.filter((_, index) => gpus[index]?.owner === at),
        })),
      };
    });
});

/** Links between GPUs at these places, with numbers from 0 at each, as both of their ends see them. */
function agreedLinks(addresses: readonly string[], joined: readonly (readonly [number, number])[]): Link[][] {
  const links: Link[][] = addresses.map(() => []);
  for (const [a, b] of joined) {
    const [near, there] = [links[a], links[b]];
    if (near === undefined || there === undefined || near === there) continue;
    const ends = [near.length, there.length] as const;
    const link = (number: number, gpu: number, far: number): Link => {
      return { number, far: { kind: "gpu", gpu: addresses[gpu] ?? "", link: far }, state: "up", origin: "wiring" };
    };
    near.push(link(ends[0], b, ends[1]));
    there.push(link(ends[1], a, ends[0]));
  }
  return links;
}

function evidence(mask: number): Pick<Link, "evidence"> {
  return {
    evidence: {
      registers: [
        { offset: NV_PMC_ENABLE, value: 0x02000000 },
        { offset: LINK_DISABLE, value: mask << 16 },
      ],
    },
  };
}

/** A GPU below so many bridges. */
function path(address: string, gpu: number, depth: number, numaNode: number | undefined): PciFunction[] {
  const kinds = ["root-port", "upstream-port", "downstream-port"] as const;
  const bridges = Array.from({ length: depth }, (_, level) => {
    const bridge = `${level.toString(16).padStart(4, "0")}:0${gpu}:00.0`;
    const parent = level === 0 ? null : `${(level - 1).toString(16).padStart(4, "0")}:0${gpu}:00.0`;
    return { ...port(bridge, kinds[level % 3] ?? null, 0x10), parent };
  });
  const parent = bridges.at(-1)?.address ?? null;
  return [...bridges, made(address, { parent, ...(numaNode !== undefined && { numaNode }) })];
}
