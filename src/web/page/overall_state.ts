import type { Finding } from "../../isolation/findings.js";
import { counted } from "./counted.js";
import type { View } from "./view.js";

/** How good news is: `waiting` is neither, `stale` is no news at all. */
export type Tone = "good" | "bad" | "waiting" | "stale";

/** So many GPUs are named in a sentence. */
const NAMED = 8;

/** How the whole machine stands, in words. */
export interface OverallState {
  tone: Tone;
  /** For a title: `fenced`, `2 fences failed`. */
  short: string;
  /** What it means, in a sentence without an end. */
  long: string;
}

/** The worst of what there is to say; nothing good is said of what is not known now. */
export function overallState(
  { lost, state: { status } }: Pick<View, "lost" | "state">,
  findings: readonly Pick<Finding, "kind">[],
): OverallState {
  if (lost !== undefined) return { tone: "stale", short: "state not known", long: lost.why };
  const fences = status.functions.flatMap(({ name, assignment, fence }) =>
    fence ? [{ name, assignment, fence }] : [],
  );
  const failed = fences.filter(({ fence }) => fence.state === "failed");
  if (failed.length > 0) {
    return {
      tone: "bad",
      short: `${counted(failed.length, "fence")} failed`,
      long: `nobody is let in at ${namesOf(failed)}`,
    };
  }
  if (findings.length > 0) {
    return {
      tone: "bad",
      short: counted(findings.length, "finding"),
      long: "something crosses between owners that should not, or may",
    };
  }
  const open = fences.filter(({ assignment, fence }) => assignment !== "host" && fence.state === "unfenced");
  if (open.length > 0) {
    return { tone: "bad", short: `${counted(open.length, "GPU")} not fenced`, long: "an assigned GPU has no fence" };
  }
  if (status.assignments.length === 0) {
    return { tone: "waiting", short: "nothing assigned", long: "no GPU is given to anybody, so nothing is fenced off" };
  }
  const renewing = fences.filter(({ fence }) => fence.state === "renewing");
  const during = renewing.length === 0 ? "" : `; ${namesOf(renewing)} being reset, nobody is let in there meanwhile`;
  return { tone: "good", short: "fenced", long: `nothing crosses between owners, as far as is known${during}` };
}

function namesOf(gpus: readonly { name: string }[]): string {
  const more = gpus.length > NAMED ? ` and ${gpus.length - NAMED} more` : "";
  return `${gpus
    .slice(0, NAMED)
    .map(({ name }) => name)
    .join(", ")}${more}`;
}
