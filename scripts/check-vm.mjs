// Checks with QEMU and Linux guests; see test/vm/README.md. Without words all of them, else those named.
// Usage: node scripts/check-vm.mjs [vfio-user] [one-v100] [two-guests]
// Exit status: 0 passed, 77 skipped because this machine cannot run them, else failed.
import { spawnSync } from "node:child_process";
import { ensureBuilt, root } from "./setup.mjs";

const SKIPPED = 77;

/** Each with the seconds that it may take. */
const CHECKS = {
  "vfio-user": { script: "test/vm/vfio_user/check.ts", budget: 120 },
  "one-v100": { script: "test/vm/v100/one_v100_check.ts", budget: 150 },
  "two-guests": { script: "test/vm/v100/two_guests_check.ts", budget: 180 },
};

const words = process.argv.slice(2);
const unknown = words.filter((word) => !(word in CHECKS));
if (unknown.length > 0) {
  console.error(`check-vm: no check ${unknown.join(", ")}; there are ${Object.keys(CHECKS).join(", ")}`);
  process.exit(2);
}
// The guests run what is built: they have no compiler.
ensureBuilt();
for (const name of words.length > 0 ? words : Object.keys(CHECKS)) {
  const { script, budget } = CHECKS[name];
  const start = Date.now();
  console.log(`${name} (budget ${budget} s)`);
  const { status, error } = spawnSync(process.execPath, ["--import", "tsx", script], {
    cwd: root,
    stdio: "inherit",
    timeout: budget * 1000,
  });
  console.log(`${name}: ${((Date.now() - start) / 1000).toFixed(1)} s${error ? `, ${error.message}` : ""}`);
  if (status === SKIPPED) process.exit(SKIPPED);
  if (status !== 0) process.exitCode = 1;
}
