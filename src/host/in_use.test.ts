import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { type Entry, madeUpFunction, madeUpHost } from "../../test/made_up_host.js";
import { hostUses, vfioHolders } from "./in_use.js";

const AT = "0000:02:00.0";
const block = { link: "../../../../../../class/block" };
const DISK: Record<string, Entry> = {
  "nvme/nvme0/nvme0n1/dev": "259:0\n",
  "nvme/nvme0/nvme0n1/subsystem": block,
  "nvme/nvme0/nvme0n1/holders": "folder/",
  "nvme/nvme0/nvme0n1/nvme0n1p1/dev": "259:1\n",
  "nvme/nvme0/nvme0n1/nvme0n1p1/subsystem": block,
  "nvme/nvme0/nvme0n1/nvme0n1p1/holders": "folder/",
};
const { rdev } = statSync("/dev/null");
/** Numbers of a device that any process can have open. */
const NULL_DEVICE = `${(rdev >> 8) & 0xfff}:${rdev & 0xff}\n`;
const QUIET: Record<string, Entry> = {
  "proc/self/mountinfo": "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n",
  "proc/swaps": "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n",
};

/** The uses of a function with these files, on a host with the rest. */
function hostWith(t: TestContext, files: Record<string, Entry>, rest: Record<string, Entry> = {}): string[] {
  return hostUses(AT, madeUpHost(t, { ...madeUpFunction("pci0000:00", AT, files), ...QUIET, ...rest }));
}

test("a function that nobody uses has no uses", (t) => {
  assert.deepEqual(hostWith(t, {}), []);
  assert.deepEqual(hostWith(t, DISK), []);
});

test("a mounted partition is a use, by its numbers or by its name", (t) => {
  const mounted = ["disk nvme0n1p1 is mounted at /data"];
  for (const line of [
    "30 22 259:1 / /data rw - ext4 /dev/root rw",
    "30 22 0:40 / /data rw - btrfs /dev/nvme0n1p1 rw",
  ]) {
    assert.deepEqual(hostWith(t, DISK, { "proc/self/mountinfo": `${line}\n` }), mounted);
  }
});

test("swap and what is built on a disk are uses", (t) => {
  const swaps = "Filename Type\n/dev/nvme0n1p1 partition\n";
  assert.deepEqual(hostWith(t, DISK, { "proc/swaps": swaps }), ["the host swaps to nvme0n1p1"]);
  const holder = { "nvme/nvme0/nvme0n1/nvme0n1p1/holders/dm-0": "" };
  assert.deepEqual(hostWith(t, { ...DISK, ...holder }), ["disk nvme0n1p1 is part of dm-0"]);
});

test("the disk of an NVMe path is looked for where it is", (t) => {
  const path = {
    "nvme/nvme0/nvme0c0n1/uevent": "",
    "nvme/nvme0/nvme0c0n1/dev": "259:9",
    "nvme/nvme0/nvme0c0n1/subsystem": block,
  };
  const head = {
    "sys/class/block/nvme0n1/dev": "259:0\n",
    "sys/class/block/nvme0n1/subsystem": { link: "../../block" },
    "sys/class/block/nvme0n1/holders": "folder/" as const,
    "proc/self/mountinfo": "30 22 259:0 / /data rw - ext4 /dev/nvme0n1 rw\n",
  };
  assert.deepEqual(hostWith(t, path, head), ["disk nvme0n1 is mounted at /data"]);
});

test("an interface with an address, of either kind, is a use; one without is none", (t) => {
  const files = { "net/eth0/uevent": "" };
  const route = { "proc/net/route": "Iface\tDestination\neth0\t0002000A\n" };
  assert.deepEqual(hostWith(t, files, route), ["network interface eth0 has an address"]);
  const six = { "proc/net/if_inet6": "fe800000000000005054000000000001 02 40 20 80     eth0\n" };
  assert.deepEqual(hostWith(t, files, six), ["network interface eth0 has an address"]);
  assert.deepEqual(hostWith(t, files, { "proc/net/route": "Iface\tDestination\neth1\t0002000A\n" }), []);
});

test("an interface in a bridge or a bond is a use", (t) => {
  const files = { "net/eth0/upper_br0": { link: "../../br0" } };
  assert.deepEqual(hostWith(t, files), ["network interface eth0 is part of br0"]);
});

test("the console's display is a use", (t) => {
  const lines = ["the host's console may be on fb0", "it is the display that the host booted with"];
  assert.deepEqual(hostWith(t, { boot_vga: "1\n", "graphics/fb0/uevent": "" }), lines);
  assert.deepEqual(hostWith(t, { boot_vga: "0\n" }), []);
});

test("a process that has the device's file open is named, and no other", (t) => {
  const folder = { "drm/card7/dev": NULL_DEVICE };
  const process7 = {
    "proc/7/comm": "gnome\n",
    "proc/7/fd/3": { link: "/dev/null" },
    "proc/8/comm": "other\n",
    "proc/8/fd/3": { link: "/dev/zero" },
  };
  assert.deepEqual(hostWith(t, folder, process7), ["process 7 (gnome) has /dev/card7 open"]);
});

test("a VFIO group is held by whoever has its file open; of another driver's function nobody is asked", (t) => {
  const files = {
    driver: { link: "../../../bus/pci/drivers/vfio-pci" },
    iommu_group: { link: "../../../kernel/iommu_groups/12" },
  };
  const group = {
    "sys/class/vfio/12/dev": NULL_DEVICE,
    "proc/345/comm": "qemu\n",
    "proc/345/fd/9": { link: "/dev/null" },
  };
  const held = madeUpHost(t, { ...madeUpFunction("pci0000:00", AT, files), ...group });
  assert.deepEqual(vfioHolders(AT, held), ["345 (qemu)"]);
  const other = { ...files, driver: { link: "../../../bus/pci/drivers/nvidia" } };
  const free = madeUpHost(t, { ...madeUpFunction("pci0000:00", AT, other), ...group });
  assert.deepEqual(vfioHolders(AT, free), []);
});
