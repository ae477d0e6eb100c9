import assert from "node:assert/strict";
import { constants } from "node:fs";
import { test } from "node:test";
import { createMemfd, type Fd, openFile } from "../os/index.js";
import { DmaTable } from "./dma_table.js";

const PAGE = 4096n;
const ALL = { readable: true, writable: true };

test("descriptors of one file have one id, however they were come by, and other files have others", () => {
  const table = new DmaTable(16);
  const memory = createMemfd("guest", 1 << 20);
  const other = createMemfd("guest", 1 << 20);
  const ids = [
    memory.duplicate(),
    memory.duplicate(),
    openFile(`/proc/self/fd/${memory.number}`, constants.O_RDWR),
    openFile(`/proc/self/fd/${memory.number}`, constants.O_RDONLY),
    other.duplicate(),
  ].map((fd, index) => idOf(table, BigInt(index), fd, index === 3));
  const { dev, ino } = memory.stat();
  assert.deepEqual(ids.slice(0, 4), new Array(4).fill(`${dev}:${ino}`));
  assert.notEqual(ids[4], ids[0]);
  const beyond = table.prepare(100n * PAGE, PAGE, 0n, ALL);
  assert.equal(beyond.range.file, undefined);
  for (const mapped of table.takeAll()) table.letGo(mapped)?.close();
  memory.close();
  other.close();
});

function idOf(table: DmaTable, index: bigint, fd: Fd, readOnly: boolean): string | undefined {
  const access = readOnly ? { ...ALL, writable: false } : ALL;
  const mapped = table.prepare(index * PAGE, PAGE, index * PAGE, access, fd);
  table.add(mapped);
  const { range } = mapped;
  assert.equal(range.file?.offset, index * PAGE);
  return range.file?.id;
}
