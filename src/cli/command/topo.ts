import { ownersOf } from "../../isolation/assignment.js";
import type { Assignment, Machine } from "../../machine/machine.js";
import { linkCount, MOST_LINKS } from "../../picture/most_links.js";
import type { Picture } from "../../picture/picture.js";
import { during } from "../during.js";
import { UsageError } from "../failure.js";
import { heading } from "../heading.js";
import {
  isTerminal,
  jsonText,
  linesText,
  terminalColumns,
  terminalIsUnicode,
  writeLines,
  writeToFile,
} from "../output.js";
import { isolateNvlinkOption, readAssignments, readSource, type SourceOptions } from "../source.js";
import { fittedMatrixLines, matrixLines, topologyMatrix } from "../topology_matrix.js";
import { checkOutPath, writeFileWhole } from "../write_file.js";

const FORMATS = ["matrix", "drawing", "tree", "svg", "dot", "png", "json"] as const;
type Format = (typeof FORMATS)[number];

/** What `topo` takes besides a source. */
export interface TopoOptions extends SourceOptions {
  format?: string;
  out?: string;
}

/** `linkfence topo`: how GPUs are connected. */
export async function runTopo(options: TopoOptions): Promise<number> {
  const format = formatOf(options);
  const toFile = options.out !== undefined && options.out !== "-";
  if (toFile) {
    checkOutPath(options.out ?? "");
    writeToFile();
  } else if (format === "png" && (options.out === undefined || process.stdout.isTTY === true)) {
    throw new UsageError("--format png needs --out FILE");
  }
  const machine = await readSource(options);
  const assignments = await readAssignments(machine, options);
  const content = await contentOf(format, machine, assignments, options);
  if (toFile) {
    await writeFileWhole(options.out ?? "", content);
    writeLines([`${machine.name} written to ${options.out}`]);
    return 0;
  }
  process.stdout.write(content);
  const unsaid = format === "matrix" || (format === undefined && machine.gpus.length > 0);
  if (unsaid && machine.virtual) process.stderr.write(`linkfence: ${machine.name} is virtual hardware\n`);
  return 0;
}

/** The format asked for; undefined for none: the matrix, and the drawing. */
function formatOf({ format, json }: TopoOptions): Format | undefined {
  const known = FORMATS.find((one) => one === format);
  if (format !== undefined && known === undefined) {
    throw new UsageError(`--format ${format}: expected ${FORMATS.slice(0, -1).join(", ")} or ${FORMATS.at(-1)}`);
  }
  if (json !== true) return known;
  if (known !== undefined && known !== "json")
    throw new UsageError(`name one format, not --format ${format} and --json`);
  return "json";
}

async function contentOf(
  format: Format | undefined,
  machine: Machine,
  assignments: readonly Assignment[],
  options: TopoOptions,
): Promise<string | Uint8Array> {
  switch (format) {
    case "json":
      return jsonText(topologyJson(machine, assignments));
    case "matrix":
      return linesText(machine.gpus.length === 0 ? [heading(machine)] : matrixLines(machine));
    case "tree": {
      const { treeLines } = await import("../topology_tree.js");
      return linesText([heading(machine), "", ...treeLines(machine, terminalIsUnicode())]);
    }
    case undefined:
      return linesText(await overview(machine, assignments, options));
    default:
      return drawn(format, machine, await pictureFor(machine, assignments, options));
  }
}

/** The matrix, and the drawing where there is something to draw. */
async function overview(machine: Machine, assignments: readonly Assignment[], options: TopoOptions): Promise<string[]> {
  if (machine.gpus.length === 0) return [heading(machine)];
  const matrix = isTerminal() ? fittedMatrixLines(machine, terminalColumns()) : matrixLines(machine);
  if (linkCount(machine) > MOST_LINKS) return matrix;
  const { drawingLines } = await import("../topology_drawing.js");
  const lines = drawingLines(await pictureFor(machine, assignments, options));
  return [...matrix, ...(lines.length > 0 ? ["", ...lines] : [])];
}

/** @throws UsageError for more links than anybody could see */
async function pictureFor(
  machine: Machine,
  assignments: readonly Assignment[],
  options: TopoOptions,
): Promise<Picture> {
  const links = linkCount(machine);
  if (links > MOST_LINKS) {
    throw new UsageError(
      `${links} links are too many for a picture (${MOST_LINKS} at most); take --format tree or json`,
    );
  }
  const { pictureOf } = await import("../../picture/picture.js");
  return pictureOf(machine, assignments, await isolateNvlinkOption(options));
}

async function drawn(
  format: "svg" | "png" | "dot" | "drawing",
  machine: Machine,
  picture: Picture,
): Promise<string | Uint8Array> {
  if (format === "drawing") {
    const { drawingLines } = await import("../topology_drawing.js");
    return linesText([heading(machine), "", ...drawingLines(picture)]);
  }
  if (format === "dot") {
    const { toDot } = await import("../../picture/dot.js");
    return toDot(picture);
  }
  const { layOut } = await import("../../picture/layout.js");
  const { toSvg } = await import("../../picture/svg.js");
  const { drawing, svg } = during(`drawing ${picture.wires.length} links`, () => {
    const laidOut = layOut(picture);
    return { drawing: laidOut, svg: toSvg(laidOut) };
  });
  if (format === "svg") return svg;
  const { toPng } = await import("../png.js");
  return toPng(svg, drawing);
}

function topologyJson(machine: Machine, assignments: readonly Assignment[]): Record<string, unknown> {
  const ownerOf = assignments.length > 0 ? ownersOf(machine, assignments) : undefined;
  return {
    machine: machine.name,
    ...(machine.virtual && { virtual: true }),
    gpus: machine.gpus.map(({ name, address, part, links }) => ({
      name,
      address,
      part,
      ...(ownerOf !== undefined && { assignment: ownerOf(address) }),
      links,
    })),
    matrix: topologyMatrix(machine),
  };
}
