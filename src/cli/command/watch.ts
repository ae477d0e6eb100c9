import { setTimeout as sleep } from "node:timers/promises";
import { makePlan } from "../../isolation/plan.js";
import { EXIT_FINDING, UsageError } from "../failure.js";
import { heading } from "../heading.js";
import { FenceWatch, type WatchEvent } from "../live/fence_watch.js";
import { LivePorts } from "../live/live_ports.js";
import { liveVerdicts } from "../live/live_verdicts.js";
import { requireRoot } from "../live/require_root.js";
import { paint, writeLines } from "../output.js";
import { directoryPath } from "../serve/private_directory.js";
import { clock } from "../serve/serving_text.js";
import { untilSignal } from "../serve/until_signal.js";
import { isolateNvlinkOption, readSource, requireAssignments } from "../source.js";
import { shown, type VerifyOptions } from "./verify.js";

/** What `watch` takes besides a source. */
export interface WatchOptions extends VerifyOptions {
  /** Milliseconds from one look to the next, in decimal. */
  interval: string;
  exitOnOpen?: boolean;
}

const SHORTEST_MS = 10;
const LONGEST_MS = 3_600_000;

/**
 * `linkfence watch`: looks at the fences of this host again and again, and tells what has changed. Looks only. Ends with a
 * signal, or with the first fence that is open when asked to; exit 1 when one was.
 */
export async function runWatch(options: WatchOptions): Promise<number> {
  if (options.live !== true) throw new UsageError("only a live host can be watched: linkfence watch --live");
  const interval = readInterval(options.interval);
  requireRoot("watch");
  const socketDir = directoryPath(options.socketDir, "--socket-dir");
  const machine = await readSource(options);
  const assignments = await requireAssignments(machine, options);
  const settings = { includeHost: options.includeHost === true, ...(await isolateNvlinkOption(options)) };
  const plan = makePlan(machine, assignments, settings);
  const tell = options.json === true ? jsonTeller() : textTeller();
  if (options.json !== true) {
    const problems = plan.problems.map(({ severity, message, action }) => `${severity}: ${message} → ${action}`);
    writeLines([heading(machine), ...problems, `every ${interval} ms; Ctrl-C ends it`]);
  }
  const ports = new LivePorts({ write: false });
  const watch = new FenceWatch();
  const ending = new AbortController();
  void untilSignal().then(() => ending.abort());
  while (!ending.signal.aborted) {
    tell(watch.take(await liveVerdicts(plan, ports, socketDir)));
    if (options.exitOnOpen === true && watch.everOpen) break;
    await sleep(interval, undefined, { signal: ending.signal }).catch(() => {});
  }
  ports.close();
  return watch.everOpen || !plan.isolated ? EXIT_FINDING : 0;
}

function readInterval(text: string): number {
  const interval = /^\d{1,7}$/.test(text) ? Number(text) : 0;
  if (interval >= SHORTEST_MS && interval <= LONGEST_MS) return interval;
  throw new UsageError(`--interval ${text}: give ${SHORTEST_MS} to ${LONGEST_MS} milliseconds`);
}

type Tell = (events: readonly WatchEvent[]) => void;

/** One object a line; the first of each GPU says `begin`. */
function jsonTeller(): Tell {
  const known = new Set<string>();
  return (events) =>
    writeLines(
      events.map(({ state, verdict }) => {
        const { name, address, expected, actual, readable, access, reason } = verdict;
        const event = known.has(address) ? state : "begin";
        known.add(address);
        return JSON.stringify({
          event,
          time: new Date().toISOString(),
          gpu: name,
          address,
          state,
          expected: shown(expected.disableMask, expected.cut),
          actual: readable ? shown(actual.disableMask, actual.cut) : null,
          access,
          ...(reason !== undefined && { reason }),
        });
      }),
    );
}

function textTeller(): Tell {
  return (events) =>
    writeLines(
      events.map(({ state, verdict }) => {
        const { name, expected, actual, readable, reason } = verdict;
        const word = state === "closed" ? paint("green", "closed") : paint("red", state.toUpperCase());
        const seen = readable ? shown(actual.disableMask, actual.cut) : "nothing";
        const why = reason === undefined ? "" : `: ${reason}`;
        return `${clock(new Date())} ${name} ${word}, expected ${shown(expected.disableMask, expected.cut)}, read ${seen}${why}`;
      }),
    );
}
