/**
 * What can go wrong on a live host besides its server: hardware breaks, something is missing. Exit status: 0 all passed, 1
 * something failed, 77 this machine cannot do it.
 */
import { runCheck } from "../run_check.js";
import { badDay } from "./bad_day.js";

const BUDGET = 320;
const CHECKS = [
  "a GPU that somebody has open by VFIO is refused, with the process",
  "registers that read all ones: that GPU is not served, says why, and the others are",
  "a group with a function that a driver has is refused with its name",
  "an ordinary user gets one line",
  "without vfio-pci nothing is touched, and the line says modprobe",
  "a GPU that does not come back keeps nobody else waiting, and is served no longer",
];

await runCheck((context) => badDay(context, "bad_days_guest.mjs", CHECKS, BUDGET));
