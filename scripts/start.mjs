// `npm start`: the main job on the built-in virtual AC922.
import { ensureBuilt } from "./setup.mjs";

await ensureBuilt();
const { runTour } = await import("../dist/cli/tour.js");
process.exitCode = await runTour();
