import { useEffect, useRef, useState } from "preact/hooks";
import { shown } from "../../picture/text.js";
import type { PageEvent } from "../snapshot.js";

/** From one announcement to the next, in milliseconds: whoever listens has other things to hear. */
const PAUSE = 3000;
/** So many are named; of more the number is enough. */
const NAMED = 3;

const WORDS: Record<string, string> = {
  done: "reset and fenced",
  failed: "fence failed",
  "found open": "found open",
};

/** Says to those who do not see the page which GPUs were reset, and which fences failed; no more often than can be heard. */
export function Announcer({ history }: { history: readonly PageEvent[] }) {
  const last = history.at(-1)?.number ?? 0;
  const told = useRef(last);
  const latest = useRef(history);
  latest.current = history;
  const pause = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const [said, setSaid] = useState({ count: 0, text: "" });
  useEffect(() => {
    const say = () => {
      pause.current = undefined;
      const text = announcement(latest.current.filter(({ number }) => number > told.current));
      told.current = latest.current.at(-1)?.number ?? 0;
      if (text === "") return;
      setSaid(({ count }) => ({ count: count + 1, text }));
      pause.current = setTimeout(say, PAUSE);
    };
    // Another server counts anew, and its first events came with the page's snapshot.
    if (last < told.current) told.current = last;
    if (pause.current === undefined) say();
  }, [last]);
  return (
    <div class="unseen" role="status">
      {/* Another element each time, so that what is said twice is heard twice. */}
      <p key={said.count}>{shown(said.text)}</p>
    </div>
  );
}

/** What these events are to a listener: failures first, each GPU once for each; empty for nothing. */
export function announcement(events: readonly PageEvent[]): string {
  const names = new Map<string, Set<string>>();
  for (const { event, gpu, step } of events) {
    const words = event === "fence" && typeof step === "string" ? WORDS[step] : undefined;
    if (words === undefined || typeof gpu !== "string") continue;
    names.set(words, (names.get(words) ?? new Set()).add(gpu));
  }
  return Object.values(WORDS)
    .toReversed()
    .flatMap((words) => {
      const gpus = [...(names.get(words) ?? [])];
      if (gpus.length === 0) return [];
      const more = gpus.length > NAMED ? ` and ${gpus.length - NAMED} more` : "";
      return [`${words}: ${gpus.slice(0, NAMED).join(", ")}${more}`];
    })
    .join("; ");
}
