/**
 * Says what the kernel's groups are and what linkfence says of the same machine, as one gzipped JSON object in base64.
 * VIRTUAL_FUNCTIONS: for each slot of the root bus whose functions get virtual ones, `SLOT=COUNT`, in hexadecimal.
 */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { check, result, status } from "/linkfence/guest/report.mjs";

const DEVICES = "/sys/bus/pci/devices";
const GROUPS = "/sys/kernel/iommu_groups";
const LINKFENCE = "/linkfence/dist/cli/main.js";

/** Addresses from the root bus down, the root bus first as `pci0000:00`. */
function pathOf(address) {
  return realpathSync(`${DEVICES}/${address}`).slice("/sys/devices/".length).split("/");
}

function switchOnVirtualFunctions() {
  const counts = (process.env.VIRTUAL_FUNCTIONS ?? "").split(" ").filter((word) => word !== "");
  writeFileSync("/sys/module/vfio_pci/parameters/enable_sriov", "1");
  for (const [slot, count] of counts.map((word) => word.split("="))) {
    const ports = new RegExp(`^0000:00:${slot}\\.`);
    for (const address of readdirSync(DEVICES).filter((one) => pathOf(one).some((step) => ports.test(step)))) {
      const folder = `${DEVICES}/${address}`;
      if (!readdirSync(folder).includes("sriov_numvfs")) continue;
      writeFileSync(`${folder}/driver_override`, "vfio-pci");
      writeFileSync("/sys/bus/pci/drivers_probe", address);
      writeFileSync(`${folder}/sriov_numvfs`, count);
    }
  }
}

/** What a command prints. Nothing may go wrong, and there is nothing to complain of. */
function linkfence(...args) {
  const { status: code, stdout, stderr } = spawnSync("node", [LINKFENCE, ...args], { maxBuffer: 64 << 20 });
  if (code !== 0 || stderr.length > 0) throw new Error(`exit status ${code}: ${stderr}`);
  return stdout.toString("utf8");
}

const findings = {};
await check("virtual functions are switched on", switchOnVirtualFunctions);
await check("the kernel's groups are read", () => {
  findings.paths = Object.fromEntries(readdirSync(DEVICES).map((address) => [address, pathOf(address)]));
  findings.kernel = readdirSync(GROUPS).map((id) => readdirSync(`${GROUPS}/${id}/devices`));
  const release = readFileSync("/proc/sys/kernel/osrelease", "utf8").trim();
  return `Linux ${release}, ${Object.keys(findings.paths).length} functions`;
});
for (const command of ["groups", "audit"]) {
  await check(`${command} --live`, () => {
    findings[command] = JSON.parse(linkfence(command, "--live", "--json"));
  });
}
await check("capture --live", () => {
  findings.capture = linkfence("capture", "--live");
});
result("findings", gzipSync(JSON.stringify(findings)).toString("base64"));
process.exitCode = status();
