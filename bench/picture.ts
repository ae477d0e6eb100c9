import type { Machine } from "../src/machine/machine.js";
import { layOut } from "../src/picture/layout.js";
import { linkList } from "../src/picture/link_list.js";
import { pictureOf } from "../src/picture/picture.js";
import { toSvg } from "../src/picture/svg.js";
import { UNICODE_SIGNS } from "../src/picture/text_canvas.js";
import { textDrawing } from "../src/picture/text_drawing.js";
import { boardsOf } from "../test/made_up_boards.js";

const ROUNDS = 15;

/** Machines of growing size drawn as SVG and in letters, from the machine to the text. */
export async function run(): Promise<void> {
  console.log(`picture, median of ${ROUNDS} rounds, the first one aside`);
  const machines: Machine[] = [
    boardsOf(2, { gpus: 8, switches: 6 }),
    boardsOf(18, { gpus: 4, switches: 18, shared: true }),
    boardsOf(36, { gpus: 16, switches: 18, shared: true }),
  ];
  for (const machine of machines) {
    const links = machine.gpus.reduce((sum, gpu) => sum + gpu.links.length, 0);
    const owners = machine.gpus.map(({ address }, index) => ({ name: `vm${index}`, members: [address] }));
    let bytes = 0;
    const svg = measured(() => {
      bytes = toSvg(layOut(pictureOf(machine, owners))).length;
    });
    const text = measured(() => {
      const picture = pictureOf(machine, owners);
      textDrawing(picture, UNICODE_SIGNS, 80);
      linkList(picture, UNICODE_SIGNS, 80);
    });
    console.log(
      `  ${String(machine.gpus.length).padStart(4)} GPUs  ${String(links).padStart(6)} links  SVG ${shown(svg)} (${(bytes / 1024).toFixed(0)} KiB)  text ${shown(text)}`,
    );
  }
}

function measured(draw: () => void): { first: number; median: number } {
  const times = Array.from({ length: ROUNDS }, () => {
    const start = performance.now();
    draw();
    return performance.now() - start;
  });
  const [first = 0, ...rest] = times;
  rest.sort((a, b) => a - b);
  return { first, median: rest[rest.length >> 1] ?? 0 };
}

function shown({ first, median }: { first: number; median: number }): string {
  return `${median.toFixed(1)} ms, first ${first.toFixed(1)} ms`;
}
