import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import fc from "fast-check";
import { parseNvlink } from "./nvlink.js";
import { NvidiaSmiError } from "./text.js";

function sample(name: string): string {
  return readFileSync(new URL(`../../../test/data/nvidia-smi/${name}`, import.meta.url), "utf8");
}

function errorOf(text: string): string {
  try {
    parseNvlink(text);
  } catch (error) {
    assert.ok(error instanceof NvidiaSmiError);
    assert.equal(error.code, "ENVIDIA_SMI");
    return error.message;
  }
  assert.fail("no error");
}

const HEADER = "GPU 0: Tesla V100-SXM2-16GB (UUID: GPU-aaaa)";

test("nvlink -p gives the far end's address of each link", () => {
  const [gpu] = parseNvlink(`${HEADER}\n\t Link 0: 00000000:1C:00.0\n\t Link 1: 0000000A:1E:00.0\n`);
  assert.deepEqual(gpu, {
    index: 0,
    product: "Tesla V100-SXM2-16GB",
    uuid: "GPU-aaaa",
    links: [
      { number: 0, remote: "0000:1c:00.0" },
      { number: 1, remote: "000a:1e:00.0" },
    ],
    allInactive: false,
  });
});

test("nvlink -R gives the far end's link number too", () => {
  const gpus = parseNvlink(sample("hgx-a100-4-nvlink-remote.txt"));
  assert.deepEqual(
    gpus.map(({ index, links }) => [index, links.length]),
    [0, 1, 2, 3].map((index) => [index, 12]),
  );
  assert.deepEqual(gpus[0]?.links[0], { number: 0, remote: "0000:41:00.0", remoteLink: 8 });
});

test("nvlink -s tells active links from inactive ones, and nothing of their far ends", () => {
  const [gpu] = parseNvlink(`${HEADER}\n         Link 0: 25.781 GB/s\n         Link 1: <inactive>\n`);
  assert.deepEqual(gpu?.links, [
    { number: 0, status: "up" },
    { number: 1, status: "down" },
  ]);
});

test("outputs one after the other complete each other", () => {
  const files = ["c4140-nvlink-status.txt", "c4140-nvlink-pci.txt", "c4140-nvlink-remote.txt"];
  const gpus = parseNvlink(files.map(sample).join("\n"));
  assert.equal(gpus.length, 4);
  assert.deepEqual(gpus[0]?.links[0], { number: 0, status: "up", remote: "0000:1e:00.0", remoteLink: 3 });
});

test("a statement that all links are inactive is kept, on the GPU's line or below it", () => {
  const says = "NVML: Unable to retrieve Nvlink information as all links are inActive";
  assert.deepEqual(
    parseNvlink(
      `GPU 0: Quadro (UUID: GPU-a) ${says}\nGPU 1: Quadro (UUID: GPU-b)\n\t ${says}\nGPU 2: T4 (UUID: GPU-c)\n`,
    ).map(({ allInactive }) => allInactive),
    [true, true, false],
  );
});

test("capabilities, error counters and throughput are passed over", () => {
  const noise = "\t Link 0, P2P is supported: true\n\t Link 0: Replay Errors: 0\n\t Link 0: Data Tx: 1234 KiB\n";
  assert.deepEqual(parseNvlink(`${HEADER}\n${noise}`)[0]?.links, []);
});

test("a text without any such output has no GPUs", () => {
  assert.deepEqual(parseNvlink(""), []);
  assert.deepEqual(parseNvlink("bash: nvidia-smi: command not found\n"), []);
});

test("carriage returns do not matter", () => {
  const text = sample("c4140-nvlink-remote.txt");
  assert.deepEqual(parseNvlink(text.replaceAll("\n", "\r\n")), parseNvlink(text));
});

test("a line that cannot be right is an error with its line number", () => {
  assert.equal(
    errorOf(`${HEADER}\n\t Link 0: Remote Device 00000000:1C:20.0: Link 3\n`),
    'line 2: not a PCI address: "00000000:1C:20.0"',
  );
  assert.equal(errorOf(`${HEADER}\n\t Link 0: 00000000:1C:00\n`), 'line 2: not a PCI address: "00000000:1C:00"');
  assert.equal(
    errorOf(`${HEADER}\n\t Link 0: Remote Device 00000000:1C:00.0\n`),
    'line 2: expected "Remote Device ADDRESS: Link N", found "Remote Device 00000000:1C:00.0"',
  );
  assert.equal(errorOf("\t Link 0: 00000000:1C:00.0\n"), "line 1: a link before any line that names a GPU");
  assert.equal(errorOf(`${HEADER}\n\t Link 64: 00000000:1C:00.0\n`), "line 2: link 64: no GPU has that many");
  assert.equal(
    errorOf(`${HEADER}\n\t Link 4: Remote Device 00000000:1A:00.0: Link 32769\n`),
    "line 2: link 32769: neither GPU nor switch has that many",
  );
  assert.equal(errorOf("GPU 1024: Tesla V100\n"), "line 1: GPU 1024: no machine has that many");
});

test("outputs that contradict each other are an error", () => {
  assert.equal(
    errorOf(`${HEADER}\n\t Link 0: 00000000:1C:00.0\n${HEADER}\n\t Link 0: 00000000:1D:00.0\n`),
    "line 4: GPU 0 link 0: 0000:1d:00.0 here, but 0000:1c:00.0 further up",
  );
  assert.equal(
    errorOf(`${HEADER}\nGPU 0: Tesla V100-SXM2-16GB (UUID: GPU-bbbb)\n`),
    "line 2: GPU 0 has another UUID than on line 1: outputs of different machines",
  );
});

test("any text gives GPUs or an NvidiaSmiError", () => {
  const word = fc.constantFrom(
    "GPU 0: ",
    "Link 3: ",
    "Remote Device ",
    "0000:1c:00.0",
    ": Link 2",
    "<inactive>",
    "\n",
    "\t",
    "(UUID: ",
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(word, fc.string({ maxLength: 4 })), { maxLength: 40 }), (words) => {
      try {
        parseNvlink(words.join(""));
      } catch (error) {
        assert.ok(error instanceof NvidiaSmiError);
      }
    }),
  );
});

test("a text of the greatest length does not stall the reader, a longer one is refused", { timeout: 60_000 }, () => {
  const line = `${HEADER} (UUID: (UUID: (UUID:\n`;
  parseNvlink(line.repeat(Math.floor((4 << 20) / line.length)));
  assert.equal(errorOf("x".repeat((4 << 20) + 1)), "longer than 4194304 characters");
  assert.equal(errorOf(`\n${"x".repeat((1 << 16) + 1)}`), "line 2: longer than 65536 characters");
});
