import { EXIT_FINDING } from "../failure.js";
import { writeJson, writeLines } from "../output.js";
import { askServer } from "../serve/control_client.js";
import { directoryPath } from "../serve/private_directory.js";
import type { ServedJson } from "../serve/serving_json.js";
import { pasteLines, servedLines } from "../serve/serving_text.js";
import { noServer } from "./status.js";

/** `linkfence assign`: changes what a running server serves. Exit 1 when a fence has failed. */
export async function runAssign(texts: string[], options: { socketDir: string; json?: boolean }): Promise<number> {
  const socketDir = directoryPath(options.socketDir, "--socket-dir");
  const onProgress = (line: string) => {
    if (options.json !== true) writeLines([line]);
  };
  const served = (await askServer(socketDir, { command: "assign", assign: texts }, onProgress)) as
    | ServedJson
    | undefined;
  if (served === undefined) throw noServer(socketDir);
  const named = new Set(texts.map((text) => text.slice(0, text.indexOf("="))));
  const changed = served.assignments.filter(({ name }) => named.has(name));
  if (options.json === true) writeJson(served);
  else writeLines([...servedLines(served), ...pasteLines(changed)]);
  return served.fenced ? 0 : EXIT_FINDING;
}
