// What takes too long for every day: a guest of a guest, every kill, and longer runs of other checks; a night for all of it.
// See test/vm/README.md and docs/assurance.md.
// Usage: node scripts/check-long.mjs [nested] [kills] [bad-days] [groups] [two-guests] [tests] [fuzz] [parsers] [explore] [models] [simulate] [simulate-controls] [differential]
// Exit status: 0 passed, 77 skipped because this machine cannot run them, else failed.
import { runChecks } from "./run-checks.mjs";

const CHECKS = {
  nested: { script: "test/vm/nested/check.ts", budget: 720, alone: true },
  kills: { script: "test/vm/bad_days/kills_check.ts", budget: 720 },
  "bad-days": { script: "test/vm/bad_days/check.ts", budget: 340 },
  groups: { script: "test/vm/groups/check.ts", env: { LINKFENCE_VM_RANDOM_MACHINES: "10" }, budget: 780 },
  "two-guests": {
    script: "test/vm/v100/two_guests_check.ts",
    env: { LINKFENCE_VM_CROSSING_S: "600" },
    budget: 780,
    alone: true,
  },
  tests: { script: "scripts/test.mjs", env: { LINKFENCE_TEST_RUNS: "10" }, budget: 1800 },
  fuzz: { script: "scripts/fuzz.mjs", args: ["--seconds", "600"], budget: 780 },
  parsers: { script: "scripts/fuzz-parsers.mjs", args: ["--seconds", "1200"], budget: 1800 },
  explore: { script: "scripts/explore.mjs", args: ["--all", "--seconds", "7200"], budget: 14_400 },
  models: { script: "scripts/models.mjs", args: ["--seconds", "600"], budget: 780 },
  simulate: { script: "scripts/simulate.mjs", args: ["--hours", "1"], budget: 3900 },
  "simulate-controls": { script: "test/simulation/controls.ts", budget: 600 },
  differential: { script: "test/differential/run.ts", args: ["--runs", "600"], budget: 1800 },
};

await runChecks("check-long", CHECKS, process.argv.slice(2));
