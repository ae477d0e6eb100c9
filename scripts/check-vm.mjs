// Checks with QEMU and Linux guests; see test/vm/README.md. Without words all of them, else those named.
// Usage: node scripts/check-vm.mjs [vfio-user] [one-v100] [two-guests] [kernel-vfio] [served-devices] [live-host] [groups] [power9]
// Exit status: 0 passed, 77 skipped because this machine cannot run them, else failed.
import { runChecks } from "./run-checks.mjs";

const CHECKS = {
  "vfio-user": { script: "test/vm/vfio_user/check.ts", budget: 120 },
  "one-v100": { script: "test/vm/v100/one_v100_check.ts", budget: 150 },
  "two-guests": { script: "test/vm/v100/two_guests_check.ts", budget: 180 },
  "kernel-vfio": { script: "test/vm/kernel_vfio/check.ts", budget: 160 },
  "served-devices": { script: "test/vm/served_devices/check.ts", budget: 220 },
  "live-host": { script: "test/vm/live_host/check.ts", budget: 400 },
  groups: { script: "test/vm/groups/check.ts", budget: 150 },
  power9: { script: "test/vm/power9/check.ts", budget: 150 },
};

runChecks("check-vm", CHECKS, process.argv.slice(2));
