import fc from "fast-check";

/** Bytes that each capability is given here, generously: by id, standard and extended ones. */
const STANDARD_ROOM: ReadonlyMap<number, number> = new Map([
  [0x01, 8],
  [0x02, 12],
  [0x03, 8],
  [0x05, 24],
  [0x07, 16],
  [0x08, 28],
  [0x0d, 8],
  [0x10, 60],
  [0x11, 12],
  [0x12, 8],
  [0x13, 8],
  [0x14, 8],
]);
const EXTENDED_ROOM: ReadonlyMap<number, number> = new Map([
  [0x01, 0x48],
  [0x02, 0x70],
  [0x05, 0x40],
  [0x08, 0x70],
  [0x09, 0x70],
  [0x0a, 0x14],
  [0x10, 0x40],
  [0x12, 0x30],
  [0x15, 0x34],
  [0x24, 0x34],
  [0x26, 0x24],
  [0x2e, 0x18],
]);

const STANDARD_IDS = Array.from({ length: 0x17 }, (_, id) => id);
const EXTENDED_IDS = Array.from({ length: 0x33 }, (_, id) => id);

interface Shape {
  noise: Uint8Array;
  size: 64 | 256 | 4096;
  headerType: 0 | 1 | 2;
  vendorId: number;
  baseClass: number;
  express: boolean;
  standard: number[];
  extended: number[];
  gaps: number[];
}

export const shapes: fc.Arbitrary<Shape> = fc.record({
  noise: fc.uint8Array({ minLength: 4096, maxLength: 4096 }),
  size: fc.constantFrom<(64 | 256 | 4096)[]>(64, 256, 4096, 4096, 4096, 4096),
  headerType: fc.constantFrom<(0 | 1 | 2)[]>(0, 0, 0, 1, 1, 2),
  vendorId: fc.constantFrom(0x10de, 0x1014, 0x8086, 0x15b3, 0x0001),
  baseClass: fc.constantFrom(0x03, 0x06, 0x02, 0x12, 0x08, 0x0c),
  express: fc.boolean(),
  standard: fc.shuffledSubarray(STANDARD_IDS, { minLength: 1, maxLength: 9 }),
  extended: fc.shuffledSubarray(EXTENDED_IDS, { minLength: 1 }),
  gaps: fc.array(fc.nat(4), { minLength: 60, maxLength: 60 }),
});

/** Config space full of noise, with sound lists in it whose order is not that of the offsets. */
export function build(shape: Shape): Uint8Array {
  const config = shape.noise.slice();
  const view = new DataView(config.buffer);
  config[0x0e] = shape.headerType | ((config[0x0e] ?? 0) & 0x80);
  view.setUint16(0x00, shape.vendorId, true);
  // Answering devices have no all-ones class.
  config[0x0b] = shape.baseClass;
  // Pins are letters; lspci prints any byte as one.
  config[0x3d] = (config[0x3d] ?? 0) % 5;
  // Where lspci prints no windows only the class tells a CardBus bridge from another.
  if (shape.headerType === 2) config.set([0x07, 0x06], 0x0a);
  else if (config[0x0a] === 0x07) config[0x0a] = 0x04;
  config[0x06] = (config[0x06] ?? 0) | 0x10;
  const first = shape.express ? [0x10] : [];
  // lspci has nothing to print of PCI-X in a CardBus bridge, not even a line's end.
  const ids = [
    ...first,
    ...shape.standard.filter((id) => !first.includes(id) && !(id === 0x07 && shape.headerType === 2)),
  ];
  layStandard(config, view, shape.size === 64 ? [] : ids, shape);
  layExtended(view, shape.extended, shape.gaps);
  return config.subarray(0, shape.size);
}

function layStandard(config: Uint8Array, view: DataView, ids: number[], { gaps, headerType }: Shape): void {
  const placed: { id: number; offset: number }[] = [];
  let offset = headerType === 2 ? 0x48 : 0x40;
  for (const [i, id] of ids.entries()) {
    const room = STANDARD_ROOM.get(id) ?? 4;
    offset += 4 * (gaps[i] ?? 0);
    if (offset + room > 0x100) break;
    placed.push({ id, offset });
    offset += room;
  }
  placed.sort((a, b) => (config[a.offset] ?? 0) - (config[b.offset] ?? 0));
  for (const [i, { id, offset: at }] of placed.entries()) {
    config[at] = id;
    config[at + 1] = placed[i + 1]?.offset ?? 0;
    // lspci 3.9 dies of enhanced allocation entries that are shorter than it expects.
    if (id === 0x14) view.setUint16(at + 2, 0, true);
    if (id === 0x09) config[at + 2] = 4;
  }
  config[headerType === 2 ? 0x14 : 0x34] = placed[0]?.offset ?? 0;
}

function layExtended(view: DataView, ids: number[], gaps: number[]): void {
  const placed: { id: number; offset: number }[] = [];
  let offset = 0x100;
  for (const [i, id] of ids.entries()) {
    const room = EXTENDED_ROOM.get(id) ?? 0x20;
    if (i > 0) offset += 4 * (gaps[20 + i] ?? 0);
    if (offset + room > 0x1000) break;
    placed.push({ id, offset });
    offset += room;
  }
  const [first, ...others] = placed;
  if (first === undefined) return;
  others.sort((a, b) => view.getUint8(a.offset) - view.getUint8(b.offset));
  const order = [first, ...others];
  for (const [i, { id, offset: at }] of order.entries()) {
    const next = order[i + 1]?.offset ?? 0;
    // Version 1 at least: a header of 0 would say that there is no list.
    view.setUint32(at, ((next << 20) | ((view.getUint8(at + 2) & 0xf || 1) << 16) | id) >>> 0, true);
    if (id === 0x0b || id === 0x23) view.setUint16(at + 6, (0x10 << 4) | (view.getUint8(at + 6) & 0xf), true);
    if (id === 0x23) view.setUint16(at + 4, 0x10de, true);
    if (id === 0x10) layVirtualBars(view, at + 0x24);
    if (id === 0x15 || id === 0x24)
      view.setUint8(at + 8, (view.getUint8(at + 8) & 0x1f) | ((((at >> 2) % 6) + 1) << 5));
  }
}

/** Memory of 32 or 64 bits: what else there can be in a register is nothing that a virtual function has. */
function layVirtualBars(view: DataView, at: number): void {
  for (let index = 0; index < 6; index++) {
    const wide = index < 5 ? 0x4 : 0;
    view.setUint8(at + 4 * index, view.getUint8(at + 4 * index) & (0xf8 | wide));
  }
}

/** A pointer of a list, or a word, that says something else. */
interface Poke {
  /** Which capability's next pointer, counted around; the pointer to the first of the standard list is number 0. */
  pointer: number;
  extended: boolean;
  to: number;
}

const target = fc.oneof(
  fc.nat(0xff),
  fc.nat(0xfff),
  fc.constantFrom(0, 0x04, 0x34, 0x3c, 0x40, 0xfc, 0xfe, 0x100, 0xffc),
);

/** Spaces whose lists may loop, overlap, lead into the header or out of the space. */
export const damagedConfigs: fc.Arbitrary<Uint8Array> = fc
  .tuple(
    shapes,
    fc.array(fc.record({ pointer: fc.nat(30), extended: fc.boolean(), to: target }), { minLength: 1, maxLength: 3 }),
  )
  .map(([shape, pokes]) => {
    const config = new Uint8Array(build(shape));
    for (const poke of pokes) damage(config, shape, poke);
    return config;
  });

function damage(config: Uint8Array, { headerType }: Shape, { pointer, extended, to }: Poke): void {
  const view = new DataView(config.buffer);
  if (extended && config.length === 4096) {
    const places = placesOf((at) => view.getUint32(at, true) >>> 20, 0x100);
    const at = places[pointer % places.length] ?? 0x100;
    view.setUint32(at, ((view.getUint32(at, true) & 0xfffff) | (to << 20)) >>> 0, true);
  } else if (config.length > 64) {
    const first = headerType === 2 ? 0x14 : 0x34;
    const places = [first, ...placesOf((at) => config[at + 1] ?? 0, config[first] ?? 0).map((at) => at + 1)];
    config[places[pointer % places.length] ?? first] = to & 0xff;
  }
}

/** Where a list goes, until it comes back or ends. */
function placesOf(next: (at: number) => number, first: number): number[] {
  const places: number[] = [];
  for (let at = first & ~3; at !== 0 && !places.includes(at); at = next(at) & ~3) places.push(at);
  return places;
}
