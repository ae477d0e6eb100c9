/** The same host booted without an IOMMU: links can be cut, but nothing can be handed out. */
import assert from "node:assert/strict";
import { PciFunction } from "/linkfence/guest/pci_function.mjs";
import { check, status } from "/linkfence/guest/report.mjs";
import { linkfence, linkfenceJson } from "./linkfence_command.mjs";

const gpus = PciFunction.findAll(0x10de, 0x1db1).map(({ address }) => address);
const assign = gpus.flatMap((address, i) => ["--assign", `vm${i + 1}=${address}`]);

await check("without an IOMMU nothing goes to vfio-pci, and the line says what to boot with", async () => {
  const { bindToVfio, readBinding } = await import("/linkfence/dist/host/driver_binding.js");
  const [nvme] = PciFunction.findAll(0x1b36, 0x0010);
  const before = readBinding(nvme.address);
  assert.equal(before.driver, "nvme");
  assert.throws(() => bindToVfio(nvme.address), /IOMMU.*intel_iommu=on/);
  assert.deepEqual(readBinding(nvme.address), before);
});

await check("without an IOMMU links are cut all the same, and the missing groups are said", async () => {
  const { unknown } = await linkfenceJson(1, "audit", "--live", ...assign);
  assert.ok(
    unknown.some(({ what }) => what.includes("IOMMU groups")),
    JSON.stringify(unknown),
  );
  const fence = await linkfence("fence", "--live", ...assign, "--yes");
  assert.equal(fence.status, 0, fence.stderr);
  assert.equal((await linkfenceJson(0, "verify", "--live")).open, false);
});

await check("without an IOMMU nothing is served, in one line, and nothing is touched", async () => {
  const [nvme] = PciFunction.findAll(0x1b36, 0x0010);
  const serve = await linkfence("serve", "--live", "--yes", "--assign", `vm1=${nvme.address}`);
  assert.equal(serve.status, 2);
  assert.match(serve.stderr.trim(), /^linkfence: this host has no IOMMU groups.*intel_iommu=on[^\n]*$/);
  assert.equal(nvme.driver, "nvme");
});

process.exit(status());
