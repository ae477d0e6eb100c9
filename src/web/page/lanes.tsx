import { useEffect, useState } from "preact/hooks";
import { shown } from "../../picture/text.js";
import { counted } from "./counted.js";
import type { Occurrence, OccurrenceKind } from "./occurrences.js";
import { clock, duration } from "./page_time.js";
import { ScrollRegion } from "./section.js";
import { Name } from "./tag.js";

/** Spans of time to look at, in milliseconds up to now. */
const SPANS = [
  { words: "1 minute", span: 60_000 },
  { words: "10 minutes", span: 600_000 },
  { words: "1 hour", span: 3_600_000 },
  { words: "1 day", span: 86_400_000 },
] as const;

/** With more GPUs than these only those have a lane to which something has happened. */
const ALL_LANES = 16;

const MARKS: Partial<Record<OccurrenceKind, string>> = {
  connect: "▲",
  disconnect: "▽",
  "trapped write": "w",
  cut: "c",
  "found open": "!",
  failed: "✗",
};

interface LanesProps {
  occurrences: readonly Occurrence[];
  /** Names of all GPUs. */
  gpus: readonly string[];
  /** How far the server's clock is ahead of this browser's, in milliseconds. */
  clockAhead: number;
  /** Where time stands still: nothing is known of what is after it, in this browser's milliseconds. */
  until: number | undefined;
}

/** A lane of time for each GPU. Everything in it is in the table too, for those who do not see it. */
export function Lanes({ occurrences, gpus, clockAhead, until }: LanesProps) {
  const [span, setSpan] = useState<number>(SPANS[1].span);
  const here = useNow(until === undefined);
  const now = Math.max((until ?? here) + clockAhead, occurrences.at(-1)?.start ?? 0);
  const from = now - span;
  const seen = occurrences.filter(({ kind, end }) => (MARKS[kind] ?? kind) !== "other" && (end ?? now) >= from);
  const busy = new Set(seen.map(({ who }) => who));
  const lanes = gpus.length > ALL_LANES ? gpus.filter((name) => busy.has(name)) : gpus;
  const label = `${counted(seen.length, "event")} of GPUs in the last ${wordsOf(span)}; the table below has them`;
  return (
    <>
      <SpanChoice span={span} onChange={setSpan} />
      <ScrollRegion label="Timeline of each GPU" high={lanes.length > ALL_LANES}>
        <div class="lanes" role="img" aria-label={label}>
          {lanes.map((name) => (
            <div class="lane" key={name}>
              <div class="lane-name">
                <Name text={name} />
              </div>
              <div class="track">
                {seen
                  .filter(({ who }) => who === name)
                  .map((one) => (
                    <LaneMark key={one.number} one={one} from={from} now={now} />
                  ))}
              </div>
            </div>
          ))}
          <div class="lane axis">
            <div class="lane-name" />
            <div class="track">
              {[0, 0.25, 0.5, 0.75, 1].map((part) => (
                <span key={part} class="tick" style={{ left: `${part * 100}%` }}>
                  {clock(from + part * span - clockAhead)}
                </span>
              ))}
            </div>
          </div>
        </div>
      </ScrollRegion>
      <p class="legend dim" aria-hidden="true">
        <span>
          <span class="bar good key" /> reset and fenced
        </span>
        <span>
          <span class="bar waiting key" /> under way
        </span>
        <span>
          <span class="bar bad key" /> failed
        </span>
        {Object.entries(MARKS).map(([kind, mark]) => (
          <span key={kind}>
            <strong>{mark}</strong> {kind}
          </span>
        ))}
      </p>
      {lanes.length < gpus.length && (
        <p class="dim">{gpus.length - lanes.length} GPUs to which nothing has happened in this time are left out.</p>
      )}
    </>
  );
}

function SpanChoice({ span, onChange }: { span: number; onChange: (span: number) => void }) {
  return (
    <fieldset class="choice">
      <legend>Last</legend>
      {SPANS.map(({ words, span: value }) => (
        <label key={value}>
          <input type="radio" name="span" checked={value === span} onChange={() => onChange(value)} />
          {words}
        </label>
      ))}
    </fieldset>
  );
}

function LaneMark({ one, from, now }: { one: Occurrence; from: number; now: number }) {
  const place = (time: number) => (100 * Math.max(0, time - from)) / (now - from);
  const [left, right] = [place(one.start), place(one.end ?? now)];
  const sign = one.kind === "reset" ? undefined : MARKS[one.kind];
  const took = one.kind === "reset" && one.end !== undefined ? `, ${duration(one.end - one.start)}` : "";
  const title = `${clock(one.start)} ${shown(one.words)}${took}`;
  if (sign === undefined) {
    return <span class={`bar ${one.tone}`} title={title} style={{ left: `${left}%`, width: `${right - left}%` }} />;
  }
  return (
    <span class={`mark ${one.tone}`} title={title} style={{ left: `${left}%` }}>
      {sign}
      {one.count > 1 && <small>{one.count}</small>}
    </span>
  );
}

function wordsOf(span: number): string {
  return SPANS.find((each) => each.span === span)?.words ?? "";
}

/** The time now, told again each second while it goes on. */
function useNow(runs: boolean): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    if (!runs) return;
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, [runs]);
  return Math.max(now, runs ? Date.now() : now);
}
