import { writeCapture } from "../../machine/capture.js";
import { writeJson, writeLines } from "../output.js";
import { readAssignments, readSource, type SourceOptions } from "../source.js";
import { writeFileWhole } from "../write_file.js";

/** `linkfence capture`: the machine, and its assignments if given, as a file that `--capture` reads. */
export async function runCapture(options: SourceOptions & { out?: string }): Promise<number> {
  const machine = await readSource(options);
  const assignments = await readAssignments(machine, options);
  const text = writeCapture({ ...machine, ...(assignments.length > 0 && { assignments }) }, new Date().toISOString());
  if (options.out === undefined || options.out === "-") {
    process.stdout.write(text);
    return 0;
  }
  await writeFileWhole(options.out, text);
  const summary = { machine: machine.name, ...(machine.virtual && { virtual: true }), out: options.out };
  if (options.json === true) writeJson(summary);
  else writeLines([`${machine.name} written to ${options.out}`]);
  return 0;
}
