import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { createInterface } from "node:readline";

const KERNEL = "/nested/vmlinux";
const INITRD = "/tmp/nested.cpio";
/** In seconds; a kernel that is emulated twice takes minutes. */
const PATIENCE = 500;
/** What a kernel does for its safety costs a minute here. */
const QUICK = "mitigations=off init_on_alloc=0 hardened_usercopy=off apparmor=0 audit=0 nokaslr no_timer_check";

/** A first file system with busybox and `nested_init`. */
function makeInitrd() {
  const script = `mkdir -p tree/bin tree/proc tree/sys tree/dev && cp /bin/busybox tree/bin/ &&
    cp /linkfence/guest/nested/nested_init tree/init && chmod +x tree/init && cd tree && find . | cpio -o -H newc >${INITRD}`;
  const { status, stderr } = spawnSync("sh", ["-c", script], { cwd: "/tmp", encoding: "utf8" });
  assert.equal(status, 0, stderr);
}

/** Boots Linux in QEMU, to its end; has how QEMU ended, what `nested_init` said, by key, and QEMU's stderr. */
export async function runLinux({ program, args }) {
  makeInitrd();
  const kernel = ["-kernel", KERNEL, "-initrd", INITRD, "-append", `quiet loglevel=0 console=ttyS0 panic=-1 ${QUICK}`];
  const qemu = spawn(program, [...args, ...kernel, "-serial", "stdio"], { stdio: ["ignore", "pipe", "pipe"] });
  const timer = setTimeout(() => qemu.kill("SIGKILL"), PATIENCE * 1000);
  const said = {};
  createInterface({ input: qemu.stdout }).on("line", (line) => {
    console.log(`nested guest: ${line}`);
    const [, key, value] = /nested (\S+) (.*?)\r*$/.exec(line) ?? [];
    if (key !== undefined) said[key] = value;
  });
  let complaints = "";
  qemu.stderr.on("data", (data) => {
    complaints += data;
  });
  const exit = await new Promise((resolve) => qemu.once("close", (code, signal) => resolve(code ?? signal)));
  clearTimeout(timer);
  return { exit, said, complaints };
}
