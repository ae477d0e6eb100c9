/**
 * Hardware of a live host that breaks. Exit status: 0 all passed, 1 something failed, 77 this machine cannot do it.
 */
import { runCheck } from "../run_check.js";
import { badDay } from "./bad_day.js";

const BUDGET = 320;
const CHECKS = [
  "registers that read all ones: that GPU is not served, says why, and the others are",
  "a GPU that does not come back keeps nobody else waiting, and is served no longer",
];

await runCheck((context) => badDay(context, "bad_days_guest.mjs", CHECKS, BUDGET));
