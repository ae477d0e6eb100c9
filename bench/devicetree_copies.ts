import { readFileSync } from "node:fs";
import { readDeviceTree } from "../src/devicetree/read.js";

// Reads each file named on the command line as a device tree and prints the user time that took, in milliseconds.

const before = process.cpuUsage();
for (const path of process.argv.slice(2)) readDeviceTree(readFileSync(path));
console.log(process.cpuUsage(before).user / 1000);
