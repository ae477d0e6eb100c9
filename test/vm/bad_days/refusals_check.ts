/**
 * What is missing on a live host, or taken. Exit status: 0 all passed, 1 something failed, 77 this machine cannot do it.
 */
import { runCheck } from "../run_check.js";
import { badDay } from "./bad_day.js";

const BUDGET = 160;
const CHECKS = [
  "a GPU that somebody has open by VFIO is refused, with the process",
  "a group with a function that a driver has is refused with its name",
  "an ordinary user gets one line",
  "without vfio-pci nothing is touched, and the line says modprobe",
];

await runCheck((context) => badDay(context, "refusals_guest.mjs", CHECKS, BUDGET));
