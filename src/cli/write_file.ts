import { statSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { errnoInWords, errnoOf } from "../host/error.js";
import { printable } from "../host/printable.js";
import { UsageError } from "./failure.js";
import { replaceFile } from "./replace_file.js";

/**
 * Refuses a path that no file can be written to, before any work is done whose result would be lost.
 * @throws UsageError when it is empty, a folder, or in no folder.
 */
export function checkOutPath(path: string): void {
  if (path === "" || path === "-") throw new UsageError("--out needs the name of a file");
  const kind = kindOf(path);
  if (kind === "folder") throw unwritable(path, "EISDIR");
  if (kind === "nothing" && kindOf(dirname(path)) !== "folder") {
    throw new UsageError(`cannot write ${printable(path)}: there is no folder ${printable(dirname(path))}`);
  }
}

/**
 * Writes a whole file or nothing: beside the target first, synced, then renamed over it. A pipe or a device is written
 * to as it is, for a rename would put a file in its place.
 * @throws UsageError when it cannot be written.
 */
export async function writeFileWhole(path: string, data: string | Uint8Array): Promise<void> {
  checkOutPath(path);
  try {
    if (kindOf(path) === "device") await writeFile(path, data);
    else replaceFile(path, data);
  } catch (error) {
    throw unwritable(path, errnoOf(error));
  }
}

function kindOf(path: string): "file" | "folder" | "device" | "nothing" {
  try {
    const stat = statSync(path);
    return stat.isFile() ? "file" : stat.isDirectory() ? "folder" : "device";
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return "nothing";
    throw unwritable(path, errnoOf(error));
  }
}

function unwritable(path: string, errno: string): UsageError {
  return new UsageError(`cannot write ${printable(path)}: ${errnoInWords(errno)}`);
}
