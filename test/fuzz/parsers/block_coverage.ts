import { type Profiler, Session } from "node:inspector";

/** The blocks of one function by `start-end`, and whether each has run. */
type Blocks = Map<string, boolean>;

/** A block that ran, to be handed to {@link BlockCoverage.add}. */
export interface Block {
  /** Of all blocks the only one of this name. */
  name: string;
  blocks: Blocks;
  range: string;
}

/** Has V8 count from now on which code runs. */
export function startCoverage(): Session {
  const session = new Session();
  session.connect();
  session.post("Profiler.enable");
  session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
  return session;
}

/**
 * Which blocks of some modules have run, as V8 counts them itself. V8 names a block only once its count differs from that
 * of the code around it, so the number of known blocks grows a little as functions are run.
 */
export class BlockCoverage {
  readonly #functions = new Map<string, Blocks>();

  /**
   * @param session as {@link startCoverage} gives it, begun before the modules were loaded
   * @param modules parts of the URLs of the modules: `/src/devicetree/`
   */
  constructor(
    private readonly session: Session,
    private readonly modules: readonly string[],
  ) {}

  /** The blocks that have run since the last call, and that {@link add} has not been told of. */
  take(): Block[] {
    const news: Block[] = [];
    this.session.post("Profiler.takePreciseCoverage", (error, taken) => {
      if (error !== null) throw error;
      for (const { url, functions } of taken.result) {
        if (this.modules.some((module) => url.includes(module))) {
          for (const { ranges } of functions) news.push(...this.#takeFunction(url, ranges));
        }
      }
    });
    return news;
  }

  add(blocks: readonly Block[]): void {
    for (const { blocks: all, range } of blocks) all.set(range, true);
  }

  /** Takes no block for run any longer. */
  forget(): void {
    this.take();
    for (const blocks of this.#functions.values()) for (const range of blocks.keys()) blocks.set(range, false);
  }

  /** Blocks that have run, and blocks that are known. */
  count(): { run: number; known: number } {
    const all = [...this.#functions.values()].flatMap((blocks) => [...blocks.values()]);
    return { run: all.filter((run) => run).length, known: all.length };
  }

  /** @param ranges the function's own first, each before those inside it */
  #takeFunction(url: string, ranges: Profiler.CoverageRange[]): Block[] {
    const [whole] = ranges;
    if (whole === undefined) return [];
    const name = `${url}:${whole.startOffset}-${whole.endOffset}`;
    let blocks = this.#functions.get(name);
    if (blocks === undefined) {
      blocks = new Map([[rangeName(whole), false]]);
      this.#functions.set(name, blocks);
    }
    for (const range of ranges) {
      // One that is named only now and runs has run before, with the count of what is around it.
      if (!blocks.has(rangeName(range))) blocks.set(rangeName(range), range.count > 0);
    }
    const news: Block[] = [];
    for (const [range, run] of blocks)
      if (!run && hasRun(range, ranges)) news.push({ name: `${name} ${range}`, blocks, range });
    return news;
  }
}

function rangeName({ startOffset, endOffset }: Profiler.CoverageRange): string {
  return `${startOffset}-${endOffset}`;
}

/** Whether the innermost of the ranges around a block was run. */
function hasRun(block: string, ranges: readonly Profiler.CoverageRange[]): boolean {
  const [start = 0, end = 0] = block.split("-").map(Number);
  return (ranges.findLast((range) => range.startOffset <= start && range.endOffset >= end)?.count ?? 0) > 0;
}
