import type { Finding } from "../isolation/findings.js";
import type { GpuPair, LinkEnd, LinkGraph } from "../isolation/links.js";
import { isCutHere } from "../machine/link_state.js";
import type { Gpu, Link } from "../machine/machine.js";
import type { PciAddress } from "../pci/address.js";

/** A link's state, by evidence. What only a word calls cut or down is `unknown`, for nothing proves it. */
export type WireState = "up" | "cut-one" | "cut-both" | "unknown";

/** Where a wire meets a GPU. */
export interface WireEnd {
  /** Index of the GPU in the picture. */
  gpu: number;
  /** Undefined where the far GPU does not say which of its links it is. */
  link: number | undefined;
  /** Proven cut at this end. */
  cut: boolean;
}

/** What else than a GPU is at the other end. */
export type Terminal =
  | { kind: "switch"; name: string }
  | { kind: "bridge"; address: PciAddress }
  | { kind: "unknown" }
  | { kind: "none" };

/** One NVLink: between two GPUs, or from one to something else. */
export interface Wire {
  /** The left GPU first. */
  ends: [WireEnd, WireEnd] | [WireEnd];
  /** Absent between two GPUs. */
  to?: Terminal;
  state: WireState;
  /** Which far end it has is inferred. */
  assumed: boolean;
  /** Numbers of the findings about it, ascending. */
  findings: number[];
}

/** All links of the GPUs in this order, each once. */
export function wiresOf(gpus: readonly Gpu[], graph: LinkGraph, findings: readonly Finding[]): Wire[] {
  const maker = new WireMaker(gpus, graph, findings);
  return [
    ...graph.pairs.flatMap((pair) => maker.between(pair)),
    ...[...graph.switches].flatMap(([name, ends]) => ends.map((end) => maker.single(end, { kind: "switch", name }))),
    ...graph.toBridges.map((end) => maker.single(end, bridgeOf(end.link))),
    ...graph.toUnknown.map((end) => maker.single(end, { kind: "unknown" })),
    ...gpus.flatMap((gpu) =>
      gpu.links
        .filter((link) => link.far.kind === "none" && !graph.isUnknown(link))
        .map((link) => maker.single({ gpu, link }, { kind: "none" })),
    ),
  ];
}

function bridgeOf({ far }: Link): Terminal {
  return far.kind === "bridge" ? { kind: "bridge", address: far.bridge } : { kind: "unknown" };
}

class WireMaker {
  readonly #graph: LinkGraph;
  readonly #index: ReadonlyMap<Gpu, number>;
  readonly #findings = new Map<string, number[]>();

  constructor(gpus: readonly Gpu[], graph: LinkGraph, findings: readonly Finding[]) {
    this.#graph = graph;
    this.#index = new Map(gpus.map((gpu, place) => [gpu, place]));
    findings.forEach((finding, at) => {
      for (const { gpu, link } of finding.links) {
        const key = `${link} ${gpu}`;
        const numbers = this.#findings.get(key) ?? [];
        if (numbers.at(-1) !== at + 1) numbers.push(at + 1);
        this.#findings.set(key, numbers);
      }
    });
  }

  single(end: LinkEnd, to: Terminal): Wire {
    const cut = this.#graph.cutAt(end) !== "none";
    const state = cut ? "cut-one" : to.kind === "unknown" ? "unknown" : wordsOf([end]);
    return { ends: [this.#end(end)], to, state, assumed: end.link.assumed === true, findings: this.#about([end]) };
  }

  /** The links between two GPUs: those that name each other first, the rest in order of their numbers. */
  between(pair: GpuPair): Wire[] {
    const turned = (this.#index.get(pair.a) ?? 0) > (this.#index.get(pair.b) ?? 0);
    const [here, there] = turned ? [pair.atB, pair.atA] : [pair.atA, pair.atB];
    const [left, right] = turned ? [pair.b, pair.a] : [pair.a, pair.b];
    const wires: Wire[] = [];
    const free = new Map(inOrder(there).map((end) => [end.link.number, end]));
    const waiting: LinkEnd[] = [];
    for (const end of inOrder(here)) {
      const named = end.link.far.kind === "gpu" && end.link.far.link !== undefined ? end.link.far.link : -1;
      const far = free.get(named);
      if (far === undefined) waiting.push(end);
      else wires.push(this.#joining(end, far));
      free.delete(named);
    }
    const rest = [...free.values()];
    for (const end of waiting) {
      const far = rest.shift();
      wires.push(far === undefined ? this.#halfSeen([end, right]) : this.#joining(end, far));
    }
    return [...wires, ...rest.map((end) => this.#halfSeen([left, end]))];
  }

  #joining(a: LinkEnd, b: LinkEnd): Wire {
    const assumed = a.link.assumed === true || b.link.assumed === true;
    return {
      ends: [this.#end(a), this.#end(b)],
      state: this.#stateOf([a, b]),
      assumed,
      findings: this.#about([a, b]),
    };
  }

  /** A link that only one of its GPUs lists. */
  #halfSeen(ends: [Gpu, LinkEnd] | [LinkEnd, Gpu]): Wire {
    const listed = ends.filter((end) => "link" in end);
    const [left, right] = ends.map((end) => ("link" in end ? this.#end(end) : this.#unlisted(end)));
    return {
      ends: [left, right] as [WireEnd, WireEnd],
      state: this.#stateOf(listed),
      assumed: true,
      findings: this.#about(listed),
    };
  }

  /** Where it is only assumed which links meet, one that is proven cut says nothing of the other: that is not known. */
  #stateOf(ends: readonly LinkEnd[]): WireState {
    const cuts = ends.map((end) => this.#graph.cutAt(end));
    if (cuts.every((cut) => cut === "none")) return wordsOf(ends);
    if (cuts.includes("none")) return "unknown";
    return cuts.every((cut) => cut === "both") ? "cut-both" : "cut-one";
  }

  #end({ gpu, link }: LinkEnd): WireEnd {
    return { gpu: this.#index.get(gpu) ?? 0, link: link.number, cut: isCutHere(gpu.part, link) };
  }

  #unlisted(gpu: Gpu): WireEnd {
    return { gpu: this.#index.get(gpu) ?? 0, link: undefined, cut: false };
  }

  /** Findings name links by their numbers, which a damaged list may have twice: they are about what is not cut. */
  #about(ends: readonly LinkEnd[]): number[] {
    const open = ends.filter((end) => this.#graph.cutAt(end) === "none");
    const numbers = open.flatMap(({ gpu, link }) => this.#findings.get(`${link.number} ${gpu.name}`) ?? []);
    return [...new Set(numbers)].sort((a, b) => a - b);
  }
}

function wordsOf(ends: readonly LinkEnd[]): WireState {
  return ends.every(({ link }) => link.state === "up") ? "up" : "unknown";
}

function inOrder(ends: readonly LinkEnd[]): LinkEnd[] {
  return [...ends].sort((a, b) => a.link.number - b.link.number);
}
