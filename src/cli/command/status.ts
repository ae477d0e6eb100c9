import { EXIT_FINDING, UsageError } from "../failure.js";
import { writeJson, writeLines } from "../output.js";
import { askServer } from "../serve/control_client.js";
import { directoryPath } from "../serve/private_directory.js";
import type { StatusJson } from "../serve/serving_json.js";
import { statusLines } from "../serve/status_text.js";

/** `linkfence status`: what a running server has fenced, serves, and has attached. Exit 1 when a fence has failed. */
export async function runStatus(options: { socketDir: string; json?: boolean }): Promise<number> {
  const socketDir = directoryPath(options.socketDir, "--socket-dir");
  const status = (await askServer(socketDir, { command: "status" })) as StatusJson | undefined;
  if (status === undefined) throw noServer(socketDir);
  if (options.json === true) writeJson(status);
  else writeLines(statusLines(status));
  return status.fenced ? 0 : EXIT_FINDING;
}

/** There is nobody to ask. */
export function noServer(socketDir: string): UsageError {
  return new UsageError(
    `no server runs in ${socketDir}; start one with linkfence serve SOURCE --assign NAME=GPU,..., or name its --socket-dir`,
  );
}
