import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { readCapabilities } from "./capability_list.js";

/** Config space of a type 0 function whose capability list begins at `first`. */
function space(size: number, first: number): DataView<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(size));
  view.setUint16(0x06, 0x10, true);
  view.setUint8(0x34, first);
  return view;
}

function put(view: DataView, offset: number, id: number, next: number, flags = 0): void {
  view.setUint8(offset, id);
  view.setUint8(offset + 1, next);
  view.setUint16(offset + 2, flags, true);
}

function putExtended(view: DataView, offset: number, id: number, next: number): void {
  view.setUint32(offset, ((next << 20) | 0x10000 | id) >>> 0, true);
}

/** An extended space whose standard list holds the Express capability alone. */
function extendedSpace(): DataView<ArrayBuffer> {
  const view = space(4096, 0x40);
  put(view, 0x40, 0x10, 0, 0x0002);
  return view;
}

function read(view: DataView<ArrayBuffer>): { found: string[]; damage: string[] } {
  const damage: string[] = [];
  const capabilities = readCapabilities(new Uint8Array(view.buffer), damage);
  return { found: capabilities.map(({ offset, name }) => `${offset.toString(16)} ${name}`), damage };
}

test("lists are read in list order, whatever the order of the offsets", () => {
  const view = space(256, 0x80);
  put(view, 0x80, 0x11, 0x40);
  put(view, 0x40, 0x01, 0xf0);
  put(view, 0xf0, 0x15, 0x00);
  assert.deepEqual(read(view), { found: ["80 MSI-X", "40 Power Management", "f0 #15"], damage: [] });
});

test("without the capability bit in the status register there is no list", () => {
  const view = space(256, 0x40);
  put(view, 0x40, 0x01, 0x00);
  view.setUint16(0x06, 0, true);
  assert.deepEqual(read(view), { found: [], damage: [] });
});

test("a loop ends the list where it closes", () => {
  const view = space(256, 0x40);
  put(view, 0x40, 0x01, 0x50);
  put(view, 0x50, 0x03, 0x40);
  const { found, damage } = read(view);
  assert.deepEqual(found, ["40 Power Management", "50 Vital Product Data"]);
  assert.equal(damage.length, 1);
  assert.match(damage[0] ?? "", /pointer at 0x51 is 0x40.*loops/);
});

test("a pointer at itself is a loop", () => {
  const view = space(256, 0x40);
  put(view, 0x40, 0x01, 0x40);
  assert.deepEqual(read(view).found, ["40 Power Management"]);
  assert.match(read(view).damage[0] ?? "", /0x41.*loops/);
});

test("a pointer into another capability is an overlap and is not followed", () => {
  const view = space(256, 0x40);
  put(view, 0x40, 0x01, 0x44);
  put(view, 0x44, 0x05, 0x60);
  put(view, 0x60, 0x03, 0x00);
  const { found, damage } = read(view);
  assert.deepEqual(found, ["40 Power Management"]);
  assert.match(damage[0] ?? "", /pointer at 0x41 is 0x44, inside the capability at 0x40/);
});

test("a capability that runs into one already listed is an overlap", () => {
  const view = space(256, 0x48);
  put(view, 0x48, 0x03, 0x40);
  put(view, 0x40, 0x11, 0x00);
  const { found, damage } = read(view);
  assert.deepEqual(found, ["48 Vital Product Data"]);
  assert.match(damage[0] ?? "", /MSI-X capability at 0x40 runs into the one at 0x48/);
});

test("a pointer into the header is not followed", () => {
  const view = space(256, 0x40);
  put(view, 0x40, 0x01, 0x3c);
  assert.match(read(view).damage[0] ?? "", /pointer at 0x41 is 0x3c, inside the header/);
});

test("a capability that does not fit in is damage", () => {
  const view = space(256, 0xfc);
  put(view, 0xfc, 0x01, 0x00);
  assert.deepEqual(read(view).found, []);
  assert.match(read(view).damage[0] ?? "", /Power Management capability at 0xfc takes 8 bytes, past the end at 0x100/);
});

test("64 bytes hold no capabilities, and that is said", () => {
  const { found, damage } = read(space(64, 0x60));
  assert.deepEqual(found, []);
  assert.match(damage[0] ?? "", /pointer at 0x34 is 0x60, but only the first 64 bytes/);
});

test("the low two bits of a pointer are reserved: ignored, but reported", () => {
  const view = space(256, 0x43);
  put(view, 0x40, 0x01, 0x00);
  assert.deepEqual(read(view).found, ["40 Power Management"]);
  assert.match(read(view).damage[0] ?? "", /pointer at 0x34 is 0x43, not a multiple of 4/);
});

test("a capability that answers with all ones ends the list", () => {
  const view = space(256, 0x40);
  put(view, 0x40, 0xff, 0xff);
  assert.deepEqual(read(view).found, []);
  assert.match(read(view).damage[0] ?? "", /nothing answers at 0x40, where 0x34 points/);
});

test("a vendor's capability may claim more bytes than there are, as on Intel X58", () => {
  const view = space(256, 0x50);
  put(view, 0x50, 0x09, 0x60, 0xff);
  put(view, 0x60, 0x01, 0x00);
  assert.deepEqual(read(view), { found: ["50 Vendor Specific Information", "60 Power Management"], damage: [] });
});

test("a CardBus bridge keeps its pointer at 0x14 and a longer header", () => {
  const view = space(256, 0x00);
  view.setUint8(0x0e, 0x02);
  view.setUint8(0x14, 0x80);
  put(view, 0x80, 0x01, 0x44);
  assert.deepEqual(read(view).found, ["80 Power Management"]);
  assert.match(read(view).damage[0] ?? "", /pointer at 0x81 is 0x44, inside the header/);
});

test("an empty extended list is no damage, one that does not answer is", () => {
  const view = extendedSpace();
  assert.deepEqual(read(view), { found: ["40 Express"], damage: [] });
  view.setUint32(0x100, 0xffffffff, true);
  assert.match(read(view).damage[0] ?? "", /nothing answers at 0x100/);
});

test("without Express or PCI-X what is behind 0x100 is no list", () => {
  const view = space(4096, 0x40);
  put(view, 0x40, 0x01, 0x00);
  putExtended(view, 0x100, 0x0d, 0x000);
  assert.deepEqual(read(view), { found: ["40 Power Management"], damage: [] });
});

test("an extended list that points at nothing, back or into the standard space ends there", () => {
  const view = extendedSpace();
  for (const [next, complaint] of [
    [0x200, /extended capability at 0x100 points to 0x200, where there is none/],
    [0x100, /pointer at 0x100 is 0x100.*loops/],
    [0x104, /pointer at 0x100 is 0x104, inside the capability at 0x100/],
    [0x040, /pointer at 0x100 is 0x40, outside the extended space/],
  ] as const) {
    putExtended(view, 0x100, 0x0d, next);
    const { found, damage } = read(view);
    assert.deepEqual(found, ["40 Express", "100 Access Control Services"]);
    assert.equal(damage.length, 1);
    assert.match(damage[0] ?? "", complaint);
  }
});

test("an extended capability's own length counts for overlaps and for the end", () => {
  const view = extendedSpace();
  putExtended(view, 0x100, 0x23, 0x140);
  view.setUint32(0x104, 0x10010de | (0x080 << 20), true);
  putExtended(view, 0x140, 0x0d, 0x000);
  assert.deepEqual(read(view).found, ["40 Express", "100 Designated Vendor-Specific"]);
  assert.match(read(view).damage[0] ?? "", /0x140, inside the capability at 0x100/);
  putExtended(view, 0x100, 0x0d, 0xff0);
  putExtended(view, 0xff0, 0x10, 0x000);
  assert.match(read(view).damage[0] ?? "", /SR-IOV\) capability at 0xff0 takes 64 bytes, past the end at 0x1000/);
});

test("noise never throws, hangs or lists two capabilities that share a byte", () => {
  const noise = fc.uint8Array({ minLength: 64, maxLength: 4096 });
  fc.assert(
    fc.property(noise, fc.nat(2), (config, type) => {
      config[0x0e] = type;
      config[0x06] = 0x10;
      const offsets = readCapabilities(config, []).map(({ offset }) => offset);
      assert.equal(new Set(offsets).size, offsets.length);
      assert.ok(offsets.every((offset) => offset % 4 === 0 && offset >= 0x40 && offset + 4 <= config.length));
    }),
    { seed: 7, numRuns: 500 },
  );
});

test("a list of as many capabilities as fit is read to its end", () => {
  const view = extendedSpace();
  for (let offset = 0x100; offset < 0x1000; offset += 4) putExtended(view, offset, 0x2a, (offset + 4) & 0xfff);
  const { found, damage } = read(view);
  assert.equal(found.length, 1 + 0xf00 / 4);
  assert.deepEqual(damage, []);
});
