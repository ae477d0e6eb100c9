import { useContext } from "preact/hooks";
import { shown } from "../../picture/text.js";
import type { Tone } from "./overall_state.js";
import { LostContext } from "./section.js";

const SIGNS: Record<Tone, string> = { good: "✓", bad: "✗", waiting: "…", stale: "?" };

/** A state in a word, with a sign besides its colour; of then when nothing is known of now. */
export function Tag({ tone, words }: { tone: Tone; words: string }) {
  const lost = useContext(LostContext) !== undefined;
  const is = lost ? "stale" : tone;
  return (
    <span class={`tag ${is}`}>
      <span aria-hidden="true">{SIGNS[is]} </span>
      {lost && tone !== "stale" ? `was ${words}` : words}
    </span>
  );
}

/** A name that comes from the machine: any text in any script, which reorders nothing around it. */
export function Name({ text }: { text: string }) {
  return <bdi class="name">{shown(text)}</bdi>;
}
