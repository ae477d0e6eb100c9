// Checks with QEMU and Linux guests; see test/vm/README.md. Without words all of them, else those named.
// Usage: node scripts/check-vm.mjs [vfio-user] [two-guests] [one-v100] [live-host] [mediator] [readme] [served-devices] [refusals] [power9] [groups] [kernel-vfio]
// Exit status: 0 passed, 77 skipped because this machine cannot run them, else failed.
import { runChecks } from "./run-checks.mjs";

/** What has two guests at once runs alone; the longest of the others come first. */
const CHECKS = {
  "two-guests": { script: "test/vm/v100/two_guests_check.ts", budget: 240, alone: true },
  "live-host": { script: "test/vm/live_host/check.ts", budget: 400 },
  "one-v100": { script: "test/vm/v100/one_v100_check.ts", budget: 400 },
  mediator: { script: "test/vm/mediator/check.ts", budget: 360 },
  readme: { script: "test/vm/mediator/readme_check.ts", budget: 360 },
  "served-devices": { script: "test/vm/served_devices/check.ts", budget: 340 },
  power9: { script: "test/vm/power9/check.ts", budget: 240 },
  groups: { script: "test/vm/groups/check.ts", budget: 340 },
  refusals: { script: "test/vm/bad_days/refusals_check.ts", budget: 180 },
  "vfio-user": { script: "test/vm/vfio_user/check.ts", budget: 200 },
  "kernel-vfio": { script: "test/vm/kernel_vfio/check.ts", budget: 280 },
};

await runChecks("check-vm", CHECKS, process.argv.slice(2));
