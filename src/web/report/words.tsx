import type { ComponentChildren } from "preact";
import type { Machine } from "../../machine/machine.js";
import { STATES } from "../../picture/words.js";

/** A name that the machine gives: letters that run from right to left change nothing of what stands beside it. */
export function Name({ text }: { text: string }) {
  return <bdi>{text}</bdi>;
}

/** An address, a register or a command: what somebody may copy. */
export function Code({ text }: { text: string }) {
  return <code>{text}</code>;
}

/** A moment; what is no ISO 8601 time stays as it is. */
export function Moment({ at }: { at: string }) {
  const words = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?Z$/.exec(at);
  if (words === null) return <Name text={at} />;
  return (
    <time dateTime={at}>
      {words[1]} {words[2]} UTC
    </time>
  );
}

/** The number of a finding as the picture has it, leading to the finding. */
export function FindingNumber({ number }: { number: number }) {
  return (
    <a class="badge" href={`#finding-${number}`} aria-label={`finding ${number}`}>
      {number}
    </a>
  );
}

/** A part of the report with a heading that one can go to. */
export function Section({ id, title, children }: { id: string; title: string; children: ComponentChildren }) {
  return (
    <section aria-labelledby={id}>
      <h2 id={id}>{title}</h2>
      {children}
    </section>
  );
}

/** `1 finding`, `2 findings`. */
export function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

/** Functions as people call them: GPUs by their names, all else by address. */
export function namesOf({ gpus }: Machine): ReadonlyMap<string, string> {
  return new Map(gpus.map(({ address, name }) => [address, name]));
}

/** What a link's end may be said to be, each with what proves it. */
export const LINK_STATES = {
  both: STATES["cut-both"],
  one: STATES["cut-one"],
  up: "up",
  down: "said to be down",
  unknown: "not known",
} as const;
