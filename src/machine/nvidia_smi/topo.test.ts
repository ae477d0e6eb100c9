import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import fc from "fast-check";
import { NvidiaSmiError } from "./text.js";
import { matrixNvlinks, parseTopoMatrix } from "./topo.js";

function sample(name: string): string {
  return readFileSync(new URL(`../../../test/data/nvidia-smi/${name}`, import.meta.url), "utf8");
}

function nvlinks(text: string): (number | undefined)[][] {
  const matrix = parseTopoMatrix(text);
  assert.ok(matrix);
  return matrix.gpus.map((row) => matrix.gpus.map((column) => matrixNvlinks(matrix, row, column)));
}

function errorOf(text: string): string {
  try {
    parseTopoMatrix(text);
  } catch (error) {
    assert.ok(error instanceof NvidiaSmiError);
    return error.message;
  }
  assert.fail("no error");
}

const TWO = "\tGPU0\tGPU1\tCPU Affinity\nGPU0\t X \tNV2\t0-7\nGPU1\tNV2\t X \t0-7\n";

test("the matrix is read with network cards, affinities and an underlined header", () => {
  assert.deepEqual(nvlinks(sample("c4140-topo.txt")), [
    [0, 2, 2, 2],
    [2, 0, 2, 2],
    [2, 2, 0, 2],
    [2, 2, 2, 0],
  ]);
  assert.deepEqual(nvlinks(sample("hgx-a100-4-topo.txt"))[3], [4, 4, 4, 0]);
});

test("a header that lost its escape characters, its tabs or its first tab is read all the same", () => {
  const expected = [
    [0, 2],
    [2, 0],
  ];
  assert.deepEqual(nvlinks(TWO.replace("\tGPU0", "\t[4mGPU0").replace("Affinity\n", "Affinity[0m\n")), expected);
  assert.deepEqual(nvlinks(TWO.replaceAll("\t", "    ")), expected);
  assert.deepEqual(nvlinks(TWO.slice(1)), expected);
});

test("connections over PCIe are no NVLinks", () => {
  for (const cell of ["PIX", "PXB", "PHB", "NODE", "SYS", "SOC", "N/A"]) {
    assert.deepEqual(nvlinks(TWO.replaceAll("NV2", cell)), [
      [0, 0],
      [0, 0],
    ]);
  }
});

test("a text without a matrix has none", () => {
  assert.equal(parseTopoMatrix(""), undefined);
  assert.equal(parseTopoMatrix(sample("c4140-nvlink-remote.txt")), undefined);
});

test("the same matrix twice is one matrix, a different one an error", () => {
  assert.deepEqual(parseTopoMatrix(TWO + TWO), parseTopoMatrix(TWO));
  assert.equal(errorOf(TWO + TWO.replaceAll("NV2", "NV1")), "line 5: row GPU0 is there twice, with different contents");
});

test("a matrix that is not whole is an error with its line number", () => {
  assert.equal(errorOf("GPU0\t X \tNV2\n"), "line 1: a row of the matrix before its header");
  assert.equal(errorOf("\tGPU0\tGPU1\nGPU0\t X \tNV2\n"), "the matrix has a column GPU1 but no such row");
  assert.equal(errorOf("\tGPU0\tGPU1\nGPU0\t X \n"), 'line 2: row GPU0 has no connection in column GPU1: ""');
  assert.equal(
    errorOf(TWO.replace("\t X \tNV2", "\tNV2\t X ")),
    "line 2: row GPU0 says NV2 in column GPU0: the columns are shifted",
  );
  assert.equal(errorOf("\tGPU0\tGPU0\n"), "line 1: a column is there twice");
  assert.equal(errorOf(`${TWO}GPU7\tNV2\tNV2\n`), "line 4: row GPU7 has no column");
});

test("any text gives a matrix, nothing or an NvidiaSmiError", () => {
  const word = fc.constantFrom("GPU0", "GPU1", " X ", "NV2", "SYS", "\t", "\n", "CPU Affinity", "mlx5_0");
  fc.assert(
    fc.property(fc.array(fc.oneof(word, fc.string({ maxLength: 3 })), { maxLength: 40 }), (words) => {
      try {
        parseTopoMatrix(words.join(""));
      } catch (error) {
        assert.ok(error instanceof NvidiaSmiError);
      }
    }),
  );
});

test("wide headers, over and over, do not stall the reader", { timeout: 60_000 }, () => {
  const header = `\t${Array.from({ length: 1000 }, (_, i) => `GPU${i}`).join("\t")}\n`;
  assert.match(errorOf(header.repeat(Math.floor((4 << 20) / header.length))), /has a column GPU0 but no such row/);
});
