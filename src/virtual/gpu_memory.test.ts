import assert from "node:assert/strict";
import { fstatSync } from "node:fs";
import { test } from "node:test";
import { duplicateFd, F_SEAL_GROW, F_SEAL_SHRINK, getSeals, Mapping } from "../os/index.js";
import { runToEnd } from "../vfio/steps.js";
import { GIB, GpuMemory } from "./gpu_memory.js";

function withMemory(use: (memory: GpuMemory) => void, size = 2 ** 24): void {
  const memory = new GpuMemory("test GPU", size);
  try {
    use(memory);
  } finally {
    memory.close();
  }
}

function bytesAt(memory: GpuMemory, offset: number, length: number): number[] {
  const data = new Uint8Array(length);
  memory.read(offset, data);
  return [...data];
}

/** Bytes that the memory takes of the host's. */
function used(memory: GpuMemory): number {
  return fstatSync(memory.fd).blocks * 512;
}

test("16 GiB take nothing until they are written, and reading changes that as little", () => {
  const memory = new GpuMemory("test GPU");
  try {
    assert.equal(memory.size, 16 * GIB);
    assert.equal(fstatSync(memory.fd).size, 16 * GIB);
    assert.deepEqual(bytesAt(memory, 15 * GIB + 3, 4), [0, 0, 0, 0]);
    assert.equal(used(memory), 0);
    memory.write(15 * GIB + 3, Uint8Array.of(1, 2, 3, 4));
    assert.deepEqual(bytesAt(memory, 15 * GIB + 2, 6), [0, 1, 2, 3, 4, 0]);
    assert.ok(used(memory) > 0 && used(memory) <= 2 ** 21);
  } finally {
    memory.close();
  }
});

test("whoever is given the descriptor can change the bytes and not the size", () => {
  withMemory((memory) => {
    const fd = duplicateFd(memory.fd);
    const seals = getSeals(fd) ?? 0;
    assert.equal(seals & (F_SEAL_GROW | F_SEAL_SHRINK), F_SEAL_GROW | F_SEAL_SHRINK);
    const mapping = new Mapping(fd, 0, 4096, "read-write");
    mapping.bytes[100] = 77;
    assert.deepEqual(bytesAt(memory, 100, 1), [77]);
    memory.write(101, Uint8Array.of(78));
    assert.equal(mapping.bytes[101], 78);
    mapping.unmap();
    fd.close();
  });
});

test("accesses through views into larger buffers, one after the other, reach the right bytes", () => {
  withMemory((memory) => {
    const one = new Uint8Array(64);
    const other = new Uint8Array(64);
    for (let i = 0; i < 64; i++) one[i] = i;
    memory.write(1000, one.subarray(10, 14));
    memory.read(1000, other.subarray(20, 24));
    memory.write(2000, one.subarray(40, 41));
    memory.read(2000, other.subarray(0, 1));
    assert.deepEqual([...other.subarray(19, 25), other[0]], [0, 10, 11, 12, 13, 0, 40]);
  });
});

test("beyond the end there is EIO, and sizes that BAR1 cannot have are EINVAL", () => {
  withMemory((memory) => {
    for (const offset of [memory.size, memory.size - 3, -1]) {
      assert.throws(() => memory.read(offset, new Uint8Array(4)), { code: "EIO" });
      assert.throws(() => memory.write(offset, new Uint8Array(4)), { code: "EIO" });
    }
    memory.read(memory.size, new Uint8Array(0));
  });
  for (const size of [0, -1, 4096, 3 * GIB, Number.NaN, Number.POSITIVE_INFINITY, 65536.5]) {
    assert.throws(() => new GpuMemory("test GPU", size), { code: "EINVAL" });
  }
});

test("clearing gives everything back, and who has it mapped sees zeros", () => {
  withMemory((memory) => {
    const fd = duplicateFd(memory.fd);
    const mapping = new Mapping(fd, 0, memory.size, "read-write");
    mapping.bytes.fill(9);
    memory.clear();
    assert.equal(used(memory), 0);
    assert.deepEqual([mapping.bytes[0], mapping.bytes[memory.size - 1]], [0, 0]);
    mapping.unmap();
    fd.close();
  });
});

test("clearing much memory lets others have their turn", () => {
  withMemory((memory) => {
    const filled = new Uint8Array(2 ** 22).fill(1);
    for (let at = 0; at < memory.size; at += filled.length) memory.write(at, filled);
    let turns = 1;
    const steps = memory.clearSteps();
    while (steps.next().done !== true) turns++;
    assert.ok(turns > 2, `${turns} turns`);
    assert.equal(used(memory), 0);
  }, 2 ** 26);
});

test("after a renewal a former mapping shows nothing of what is written, nor the other way round", () => {
  withMemory((memory) => {
    const fd = duplicateFd(memory.fd);
    const mapping = new Mapping(fd, 0, 4096, "read-write");
    memory.write(0, Uint8Array.of(5));
    runToEnd(memory.clearSteps());
    memory.renew();
    memory.write(0, Uint8Array.of(6));
    assert.equal(mapping.bytes[0], 0);
    mapping.bytes[1] = 7;
    assert.deepEqual(bytesAt(memory, 0, 2), [6, 0]);
    mapping.unmap();
    fd.close();
  });
});
