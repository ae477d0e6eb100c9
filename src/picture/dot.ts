import type { TreeNode } from "./pcie_tree.js";
import { isAssigned, type Picture, type PicturedGpu } from "./picture.js";
import { ownerColour } from "./svg_style.js";
import { shown } from "./text.js";
import type { Wire } from "./wires.js";
import { STATES } from "./words.js";

/** The picture as source for Graphviz: `dot -Tsvg`, or whatever else draws graphs. */
export function toDot(picture: Picture): string {
  return [
    `graph ${quoted(picture.machine)} {`,
    `  graph [label=${quoted(`${picture.machine}${picture.virtual ? " (virtual)" : ""}`)}, labelloc=t, fontname=monospace];`,
    "  node [shape=box, fontname=monospace, fontsize=11];",
    "  edge [fontname=monospace, fontsize=9];",
    ...picture.sockets.flatMap((socket, index) => socketLines(socket, index, picture)),
    ...picture.switches.map((name, index) => `  switch${index} [shape=ellipse, label=${quoted(`NVSwitch ${name}`)}];`),
    ...picture.bridges.map(({ address, npu, linkIndex }, index) => {
      return `  bridge${index} [label=${quoted(`NPU bridge ${address}`, `link ${linkIndex} of ${npu}`)}];`;
    }),
    ...picture.wires.map((wire, index) => wireLine(wire, index, picture)),
    "}",
    "",
  ].join("\n");
}

function socketLines(socket: TreeNode, index: number, picture: Picture): string[] {
  const lines = [`  subgraph cluster_socket${index} {`, `    label=${quoted(socket.label)};`];
  let count = 0;
  const add = (node: TreeNode): string => {
    const id = node.gpu === undefined ? `node${index}_${count++}` : `gpu${node.gpu}`;
    const gpu = picture.gpus[node.gpu ?? -1];
    lines.push(gpu === undefined ? `    ${id} [label=${quoted(node.label)}];` : `    ${gpuNode(id, gpu, picture)}`);
    for (const child of node.children) lines.push(`    ${id} -- ${add(child)} [color=gray50];`);
    return id;
  };
  for (const child of socket.children) add(child);
  return [...lines, "  }"];
}

function gpuNode(id: string, { name, address, part, owner, group }: PicturedGpu, { owners }: Picture): string {
  const words = [...new Set([name, address]), part];
  if (isAssigned(owner)) words.push(owner);
  if (group !== undefined) words.push(`IOMMU group ${group.id}`);
  const colour = isAssigned(owner) ? `, style=filled, fillcolor="${ownerColour(owners.indexOf(owner))}"` : "";
  return `${id} [label=${quoted(...words)}${colour}];`;
}

const STYLES: Record<Wire["state"], string> = {
  up: "style=bold",
  "cut-one": "style=dashed",
  "cut-both": "style=dotted",
  unknown: 'style="dashed,bold"',
};

function wireLine({ ends, to, state, findings }: Wire, index: number, picture: Picture): string {
  const [a, b] = ends;
  const far = b === undefined ? farNode(to, index, picture) : `gpu${b.gpu}`;
  const words = [
    ...(state === "up" ? [] : [STATES[state]]),
    ...(findings.length > 0 ? [`finding ${findings.join(", ")}`] : []),
  ];
  const attributes = [
    STYLES[state],
    `taillabel="${a.link ?? "?"}"`,
    ...(b === undefined ? [] : [`headlabel="${b.link ?? "?"}"`, "weight=0"]),
    ...cutMarks(ends),
    // As label, some versions of Graphviz lose the way between two nodes of one rank.
    ...(words.length > 0 ? [`xlabel="${words.join(", ")}"`] : []),
    ...(findings.length > 0 ? ['color="#d55e00"', 'fontcolor="#d55e00"'] : []),
  ];
  const line = `  gpu${a.gpu} -- ${far} [${attributes.join(", ")}];`;
  const end = to?.kind === "none" ? "nothing" : "?";
  return far.startsWith("end") ? `  ${far} [shape=plaintext, label="${end}"];\n${line}` : line;
}

/** A bar across the line at each end that is cut. */
function cutMarks(ends: Wire["ends"]): string[] {
  const [tail, head] = ends.map(({ cut }) => (cut ? "tee" : "none"));
  return ends.some(({ cut }) => cut) ? ["dir=both", `arrowtail=${tail}`, `arrowhead=${head ?? "none"}`] : [];
}

function farNode(to: Wire["to"], index: number, { switches, bridges }: Picture): string {
  if (to?.kind === "switch") return `switch${switches.indexOf(to.name)}`;
  const bridge = to?.kind === "bridge" ? bridges.findIndex(({ address }) => address === to.address) : -1;
  return bridge < 0 ? `end${index}` : `bridge${bridge}`;
}

/** Lines of text as Graphviz quotes them; it reads backslashes and HTML's entities there. */
function quoted(...lines: string[]): string {
  return `"${lines.map((line) => shown(line).replaceAll("&", "&amp;").replace(/["\\]/g, "\\$&")).join("\\n")}"`;
}
