import { realpathSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

/** The project's folder with its sources, also for what runs compiled, in a folder of its own (`scripts/compiled.mjs`). */
export const PROJECT = dirname(realpathSync(fileURLToPath(new URL("../package.json", import.meta.url))));
