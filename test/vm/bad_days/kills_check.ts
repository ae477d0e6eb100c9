/**
 * Kills the server of a live host at ten moments. Exit status: 0 all passed, 1 something failed, 77 this machine cannot do it.
 */
import { runCheck } from "../run_check.js";
import { badDay } from "./bad_day.js";

/** Numbers of the moments in `guest/kills_guest.mjs`. */
const POINTS = "0,1,2,3,4,5,6,7,8,9";
const BUDGET = 700;
const CHECKS = [
  "killed at any moment, each next start goes on from there",
  "killed, and released without a server: the driver is there again",
];

await runCheck((context) => badDay(context, "kills_guest.mjs", CHECKS, BUDGET, { POINTS }));
