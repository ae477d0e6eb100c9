import { spawnSync } from "node:child_process";
import { type Stats, statSync } from "node:fs";
import { resolve } from "node:path";
import { MAX_TREE_BYTES } from "../devicetree/limits.js";
import { errnoInWords, errnoOf } from "./error.js";
import { printable } from "./printable.js";

/** Why device tree source could not be compiled. */
export class DtcError extends Error {
  constructor(
    /** `EDTC_MISSING`: dtc is not installed. `EDTC_SOURCE`: it refused the source, or there is none. `EDTC_LIMIT`: it took too long or wrote too much. */
    readonly code: "EDTC_MISSING" | "EDTC_SOURCE" | "EDTC_LIMIT",
    message: string,
  ) {
    super(message);
    this.name = "DtcError";
  }
}

/** dtc takes 15 ms for a 140 KB source; what takes so much longer is an `/incbin/` of something endless. */
const TIME_LIMIT_MS = 2000;

/**
 * Compiles a device tree source file to a flattened tree with the device tree compiler, `dtc`. Its warnings are dropped.
 * @throws DtcError EDTC_MISSING, EDTC_SOURCE or EDTC_LIMIT.
 */
export function compileDeviceTreeSource(path: string): Uint8Array {
  checkSource(path);
  // An absolute path, so that no file name is taken for an option.
  const run = spawnSync("dtc", ["-q", "-I", "dts", "-O", "dtb", "-o", "-", resolve(path)], {
    stdio: ["ignore", "pipe", "pipe"],
    timeout: TIME_LIMIT_MS,
    killSignal: "SIGKILL",
    maxBuffer: MAX_TREE_BYTES,
  });
  const failure = run.error && errnoOf(run.error);
  if (failure === "ENOENT") {
    const advice = "install it (Debian package device-tree-compiler), or give the compiled .dtb";
    throw new DtcError("EDTC_MISSING", `${path}: device tree source needs dtc, which is not installed: ${advice}`);
  }
  if (failure === "ETIMEDOUT")
    throw new DtcError("EDTC_LIMIT", `${path}: dtc took more than ${TIME_LIMIT_MS / 1000} s`);
  if (failure === "ENOBUFS") throw new DtcError("EDTC_LIMIT", `${path}: dtc wrote more than ${MAX_TREE_BYTES} bytes`);
  if (run.error !== undefined) throw new DtcError("EDTC_SOURCE", `${path}: cannot run dtc: ${run.error.message}`);
  if (run.status !== 0) {
    const line = firstLine(run.stderr) || "failed";
    throw new DtcError("EDTC_SOURCE", line.includes(path) ? `dtc: ${line}` : `${path}: dtc: ${line}`);
  }
  return new Uint8Array(run.stdout);
}

function checkSource(path: string): void {
  const stat = fileStat(path);
  if (stat === undefined) throw new DtcError("EDTC_SOURCE", `${path}: no such file`);
  if (!stat.isFile()) throw new DtcError("EDTC_SOURCE", `${path}: device tree source is read from a regular file only`);
  if (stat.size > MAX_TREE_BYTES) {
    throw new DtcError("EDTC_LIMIT", `${path}: ${stat.size} bytes, more than the ${MAX_TREE_BYTES} a source may have`);
  }
}

function fileStat(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch (error) {
    throw new DtcError("EDTC_SOURCE", `${path}: ${errnoInWords(errnoOf(error))}`);
  }
}

/** The first line with something in it; it quotes the source. */
function firstLine(output: Buffer): string {
  const lines = output.toString("utf8").split("\n");
  return printable(lines.find((line) => line.trim() !== "") ?? "").trim();
}
