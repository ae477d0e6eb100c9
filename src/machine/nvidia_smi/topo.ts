import { MAX_GPUS, NvidiaSmiError, quote, textLines } from "./text.js";

/** The GPU part of the matrix that `nvidia-smi topo -m` prints. */
export interface TopoMatrix {
  /** nvidia-smi's numbers of the GPUs, ascending. */
  gpus: number[];
  /** Row, then column: `X`, `NV2`, `PIX`, `SYS`, ... */
  cells: Map<number, Map<number, string>>;
}

/** How many NVLinks row `from` gives for column `to`: 0 when it names another path, undefined when it has no cell. */
export function matrixNvlinks(matrix: TopoMatrix, from: number, to: number): number | undefined {
  const cell = matrix.cells.get(from)?.get(to);
  if (cell === undefined) return undefined;
  return cell.startsWith("NV") ? Number(cell.slice(2)) : 0;
}

/**
 * Reads the matrix of `nvidia-smi topo -m`, with or without columns for network cards and affinities, underlined or
 * not. The legend and other text around it are passed over; a second, equal matrix is allowed.
 * Undefined for a text without a matrix.
 * @throws NvidiaSmiError when a row is missing, short, or there twice with different contents
 */
export function parseTopoMatrix(text: string): TopoMatrix | undefined {
  let columns: readonly string[] | undefined;
  const cells = new Map<number, Map<number, string>>();
  for (const [index, line] of textLines(text).entries()) {
    const words = line.split(/\s+/).filter((word) => word !== "");
    const [first, second] = words;
    const row = gpuNumber(first);
    if (row === undefined) continue;
    if (second !== undefined && CELL.test(second)) {
      if (columns === undefined) throw new NvidiaSmiError("a row of the matrix before its header", index + 1);
      addRow(cells, row, readRow(columns, row, words.slice(1), index + 1), index + 1);
    } else if (words.slice(1).every((word) => !CELL.test(word))) {
      columns = readHeader(words, index + 1);
    }
  }
  return columns === undefined ? undefined : complete(columns, cells);
}

/** Cells as drivers since 2016 print them; `SOC` is what `SYS` was called first. */
const CELL = /^(?:X|NV\d{1,3}|PIX|PXB|PHB|NODE|SYS|SOC|N\/A)$/;

function gpuNumber(word: string | undefined): number | undefined {
  const digits = /^GPU(\d{1,4})$/.exec(word ?? "")?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** Devices come first; what follows the last of them are titles of two or three words. */
function readHeader(words: readonly string[], line: number): readonly string[] {
  const titles = words.findIndex((word) => word === "CPU" || word === "NUMA" || word === "GPU");
  const columns = titles < 0 ? words : words.slice(0, titles);
  if (columns.length > 2 * MAX_GPUS)
    throw new NvidiaSmiError(`${columns.length} columns: no machine has that many`, line);
  if (new Set(columns).size < columns.length) throw new NvidiaSmiError("a column is there twice", line);
  return columns;
}

function readRow(columns: readonly string[], row: number, words: readonly string[], line: number): Map<number, string> {
  const cells = new Map<number, string>();
  for (const [index, column] of columns.entries()) {
    const to = gpuNumber(column);
    if (to === undefined) continue;
    const cell = words[index];
    if (cell === undefined || !CELL.test(cell)) {
      throw new NvidiaSmiError(`row GPU${row} has no connection in column ${column}: ${quote(cell ?? "")}`, line);
    }
    if ((cell === "X") !== (row === to)) {
      throw new NvidiaSmiError(`row GPU${row} says ${cell} in column ${column}: the columns are shifted`, line);
    }
    cells.set(to, cell);
  }
  if (!cells.has(row)) throw new NvidiaSmiError(`row GPU${row} has no column`, line);
  return cells;
}

function addRow(cells: TopoMatrix["cells"], row: number, read: Map<number, string>, line: number): void {
  const known = cells.get(row);
  if (known === undefined) {
    cells.set(row, read);
    return;
  }
  if (known.size !== read.size || [...read].some(([to, cell]) => known.get(to) !== cell)) {
    throw new NvidiaSmiError(`row GPU${row} is there twice, with different contents`, line);
  }
}

function complete(columns: readonly string[], cells: TopoMatrix["cells"]): TopoMatrix {
  const gpus = columns.flatMap((column) => gpuNumber(column) ?? []).sort((a, b) => a - b);
  const missing = gpus.find((gpu) => !cells.has(gpu));
  if (missing !== undefined) throw new NvidiaSmiError(`the matrix has a column GPU${missing} but no such row`);
  return { gpus, cells };
}
