// What takes too long for every day: a guest of a guest, and longer runs of other checks; see test/vm/README.md.
// Usage: node scripts/check-long.mjs [nested] [kills] [groups] [two-guests] [fuzz]
// Exit status: 0 passed, 77 skipped because this machine cannot run them, else failed.
import { runChecks } from "./run-checks.mjs";

const CHECKS = {
  nested: { script: "test/vm/nested/check.ts", budget: 720, alone: true },
  kills: { script: "test/vm/bad_days/kills_check.ts", env: { LINKFENCE_VM_KILLS: "all" }, budget: 720 },
  groups: { script: "test/vm/groups/check.ts", env: { LINKFENCE_VM_RANDOM_MACHINES: "10" }, budget: 780 },
  "two-guests": {
    script: "test/vm/v100/two_guests_check.ts",
    env: { LINKFENCE_VM_CROSSING_S: "600" },
    budget: 780,
    alone: true,
  },
  fuzz: { script: "scripts/fuzz.mjs", args: ["--seconds", "600"], budget: 780 },
};

await runChecks("check-long", CHECKS, process.argv.slice(2));
