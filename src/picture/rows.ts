import type { TreeNode } from "./pcie_tree.js";
import type { Picture } from "./picture.js";

/**
 * Cuts a picture between sockets that no link joins, so that none of its rows is wider than `most` where that can be.
 * @param widthOf what a GPU takes of a row
 */
export function rowsOf(picture: Picture, widthOf: (gpu: number) => number, most: number): Picture[] {
  const joined = joinedAcross(picture);
  const rows: { first: number; end: number; sockets: TreeNode[]; width: number }[] = [];
  let [piece, first, gpu, width] = [[] as TreeNode[], 0, 0, 0];
  for (const socket of picture.sockets) {
    piece.push(socket);
    for (const index of leavesOf(socket)) {
      gpu = index + 1;
      width += widthOf(index);
    }
    if (joined[gpu] === true) continue;
    const last = rows.at(-1);
    if (last !== undefined && last.width + width <= most) {
      last.sockets.push(...piece);
      last.end = gpu;
      last.width += width;
    } else {
      rows.push({ first, end: gpu, sockets: piece, width });
    }
    [piece, first, width] = [[], gpu, 0];
  }
  return rows.length < 2 ? [picture] : rows.map(({ first: from, end, sockets }) => part(picture, from, end, sockets));
}

/** Before which GPUs something runs across. */
function joinedAcross({ gpus, wires, bridges, switches }: Picture): boolean[] {
  const opens = new Array<number>(gpus.length + 2).fill(0);
  const spans = new Map<string, [number, number]>(switches.map((name) => [name, [gpus.length, -1]]));
  const gpuOf = new Map(bridges.map(({ address, gpu }) => [address, gpu]));
  const span = (from: number, to: number) => {
    opens[from + 1] = (opens[from + 1] ?? 0) + 1;
    opens[to + 1] = (opens[to + 1] ?? 0) - 1;
  };
  for (const { ends, to } of wires) {
    const places = ends.map(({ gpu }) => gpu);
    if (to?.kind === "bridge") places.push(gpuOf.get(to.address) ?? ends[0].gpu);
    const [from, end] = [Math.min(...places), Math.max(...places)];
    const bar = to?.kind === "switch" ? spans.get(to.name) : undefined;
    if (bar === undefined) span(from, end);
    else [bar[0], bar[1]] = [Math.min(bar[0], from), Math.max(bar[1], end)];
  }
  for (const [from, end] of spans.values()) if (end > from) span(from, end);
  let open = 0;
  return opens.map((change) => {
    open += change;
    return open > 0;
  });
}

/** The picture of the GPUs from `first` to before `end`, counted from 0. */
function part(picture: Picture, first: number, end: number, sockets: TreeNode[]): Picture {
  const here = (gpu: number | undefined) => gpu !== undefined && gpu >= first && gpu < end;
  const wires = picture.wires.filter(({ ends }) => here(ends[0].gpu));
  const used = new Set(wires.flatMap(({ to }) => (to?.kind === "switch" ? [to.name] : [])));
  return {
    ...picture,
    sockets: sockets.map((socket) => moved(socket, first)),
    gpus: picture.gpus.slice(first, end),
    wires: wires.map((wire) => {
      const [a, b] = wire.ends.map((one) => ({ ...one, gpu: one.gpu - first }));
      return { ...wire, ends: (b === undefined ? [a] : [a, b]) as typeof wire.ends };
    }),
    switches: picture.switches.filter((name) => used.has(name)),
    bridges: picture.bridges
      .filter(({ gpu }) => here(gpu))
      .map((bridge) => ({ ...bridge, gpu: (bridge.gpu ?? 0) - first })),
  };
}

function moved(node: TreeNode, by: number): TreeNode {
  const children = node.children.map((child) => moved(child, by));
  return { ...node, children, ...(node.gpu !== undefined && { gpu: node.gpu - by }) };
}

/** The GPUs below a node, in order. */
function leavesOf(node: TreeNode): number[] {
  return node.gpu === undefined ? node.children.flatMap(leavesOf) : [node.gpu];
}
