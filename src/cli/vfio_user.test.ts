import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { conforming } from "../../test/cli/json_schema.js";
import { linkfence, refused } from "../../test/cli/linkfence.js";
import { type RunningServer, startServer, VfioUserClient } from "../vfio-user/index.js";

const directory = mkdtempSync(join(tmpdir(), "linkfence-cli-"));
const path = join(directory, "device.sock");
let server: RunningServer;

before(async () => {
  server = await startServer({ module: new URL("../../test/vfio_user/test_device.js", import.meta.url), data: [path] });
});

after(async () => {
  await server.stop();
  rmSync(directory, { recursive: true });
});

/** Runs `linkfence vfio-user`. */
async function run(...args: string[]): Promise<{ status: number | null; out: string; error: string }> {
  const { status, stdout, stderr } = await linkfence("vfio-user", ...args);
  return { status, out: stdout, error: stderr };
}

test("info shows regions with their capabilities, and interrupts", async () => {
  const { status, out, error } = await run("info", path);
  assert.equal(status, 0, error);
  assert.match(out, /bar2 +0x10000 +read write mmap +SPARSE_MMAP 0x1000\+0x2000/);
  assert.match(
    out,
    /region 9 +0x2000000000 .*TYPE 0x800010de subtype 1; NVLINK2_SSATGT 0x4000000000000; NVLINK2_LNKSPD 9/,
  );
  assert.match(out, /MSI-X +64 +eventfd/);
  const json = conforming<{ regions: { name: string; size: string }[] }>(
    "vfio-user-info",
    (await run("info", path, "--json")).out,
  );
  assert.deepEqual(
    json.regions.map(({ name }) => name),
    ["bar0", "bar1", "bar2", "bar3", "bar4", "rom", "config", "region 9"],
  );
  assert.equal(json.regions[0]?.size, "0x200000");
});

test("a value that was written is read back, and a reset clears it", async () => {
  assert.equal((await run("write", path, "bar0", "0x10", "0x12345678")).status, 0);
  assert.equal((await run("read", path, "bar0", "16")).out, "0x12345678\n");
  assert.equal((await run("read", path, "0", "0x10", "2")).out, "0x5678\n");
  assert.equal((await run("read", path, "bar0", "0xe", "6")).out, "0000000e: 00 00 78 56 34 12\n");
  conforming("vfio-user-reset", (await run("reset", path, "--json")).out);
  const read = conforming<{ value: string }>("vfio-user-read", (await run("read", path, "bar0", "16", "--json")).out);
  assert.equal(read.value, "0x00000000");
  conforming("vfio-user-write", (await run("write", path, "9", "0", "1", "--size", "8", "--json")).out);
});

test("an access that the end of a region cuts off shows what came of it", async () => {
  const end = 2n ** 37n;
  assert.equal(
    (await run("write", path, "9", String(end - 2n), "0x44332211")).out,
    "2 of 4 bytes written: the region ends there\n",
  );
  assert.equal((await run("read", path, "9", String(end - 2n))).out, "1ffffffffe: 11 22\n");
  const read = conforming<{ data: string; value?: string }>(
    "vfio-user-read",
    (await run("read", path, "9", String(end - 2n), "--json")).out,
  );
  assert.deepEqual([read.data, read.value], ["1122", undefined]);
  const write = conforming<{ written: number }>(
    "vfio-user-write",
    (await run("write", path, "9", String(end - 1n), "0x99", "--json")).out,
  );
  assert.equal(write.written, 1);
});

test("bad input is one line that says what to do", async () => {
  for (const [args, expected] of [
    [["info", join(directory, "absent")], /no such socket; start the server first/],
    [["read", path, "bar7", "0"], /region 'bar7': expected a number or one of bar0/],
    [["read", path, "bar0", "4k"], /offset '4k': expected a number/],
    [["read", path, "bar0", "0", "0x100001"], /count 0x100001: at most 0x100000/],
    [["read", path, "bar1", "4096"], /device\.sock: the server refuses it; `linkfence vfio-user info` shows/],
    [["info", directory], /: not a socket\n$/],
    [["info", "x".repeat(108)], /: a socket's path has 1 to 107 bytes\n$/],
    [["write", path, "bar0", "0", "256", "--size", "1"], /value 256: at most 0xff/],
    [["write", path, "bar0", "0", "1", "--size", "3"], /--size 3: expected 1, 2, 4 or 8/],
  ] as const) {
    assert.match(refused(await linkfence("vfio-user", ...args), args.join(" ")), expected);
  }
});

test("a device that another client has is said to be taken", async () => {
  const client = new VfioUserClient(path);
  assert.match((await run("info", path)).error, /another client is attached/);
  client.close();
});

test("a device that is not made ready for a client is said to be so", async () => {
  await server.call([0, { do: "fail to open" }]);
  assert.match(
    (await run("info", path)).error,
    /device\.sock: the device could not be made ready for a client; the server's/,
  );
  assert.equal((await run("info", path)).status, 0);
});
