import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { linesByAddress, lspci } from "../../test/differential/listing.js";
import { formatAddress, type PciAddress } from "./address.js";
import { className } from "./class_code.js";
import { decodeFunction } from "./decode_function.js";

// Config spaces are compared with what lspci prints of them in test/differential.

const version = spawnSync("lspci", ["--version"], { encoding: "utf8" }).stdout ?? "";
const skip = /version 3\.9/.test(version) ? false : "lspci of pciutils 3.9 is not installed";

const directory = mkdtempSync(join(tmpdir(), "linkfence-oracle-"));
after(() => rmSync(directory, { recursive: true, force: true }));

test("lspci names every known class, and those it does not know, as we do", { skip }, () => {
  const classes = new Map<PciAddress, Uint8Array>();
  for (let base = 0; base < 0x15; base++) {
    for (let sub = 0; sub < 0x14; sub++) {
      const config = new Uint8Array(64);
      config.set([0xde, 0x10, 0xb1, 0x1d]);
      config[0x0a] = sub === 0x13 ? 0x80 : sub;
      config[0x0b] = base === 0x14 ? 0x40 : base;
      classes.set(formatAddress({ domain: 1, bus: base, device: sub, function: 0 }), config);
    }
  }
  for (const [address, [line]] of linesByAddress(lspci(directory, classes, ["-D"]))) {
    const fn = decodeFunction(address, classes.get(address) ?? new Uint8Array());
    const name = className(fn.classCode ?? 0);
    assert.equal(line?.slice(address.length + 1, address.length + 1 + name.length + 2), `${name}: `);
  }
});
