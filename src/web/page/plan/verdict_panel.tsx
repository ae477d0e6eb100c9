import { shown } from "../../../picture/text.js";
import { count, nameList } from "./plan_words.js";
import type { Preview } from "./preview.js";

/** Problems beyond these are counted only. */
const SHOWN = 40;

/** Whether the plan isolates, what stands in the way, and what to do about it. */
export function VerdictPanel({ preview }: { preview: Preview }) {
  const { plan, cutLinks, resets, refusals, texts } = preview;
  const [sign, word] = !plan.isolated
    ? ["✗", "does not isolate"]
    : refusals.length > 0
      ? ["!", "isolates, but the server would refuse it"]
      : ["✓", texts.length === 0 ? "isolates; it is what is assigned now" : "isolates"];
  return (
    <section class="plan-verdict" aria-labelledby="plan-verdict" data-isolated={plan.isolated}>
      <h3 id="plan-verdict">
        <span aria-hidden="true">{sign} </span>This plan {word}
      </h3>
      <ul>
        <li>{count(cutLinks, "link")} between owners, or to where nobody knows, cut</li>
        <li>{resets.length === 0 ? "no GPU is reset" : `reset: ${nameList(resets)}`}</li>
      </ul>
      {plan.problems.length > 0 && (
        <ol class="plan-problems">
          {plan.problems.slice(0, SHOWN).map(({ severity, message, action }) => (
            <li key={message}>
              <strong>{severity === "error" ? "Problem" : "Warning"}:</strong> {shown(message)}
              <br />
              <span aria-hidden="true">→ </span>
              {shown(action)}
            </li>
          ))}
          {plan.problems.length > SHOWN && <li>and {plan.problems.length - SHOWN} more</li>}
        </ol>
      )}
      {refusals.length > 0 && (
        <div class="plan-refusals">
          <p>The server refuses it:</p>
          <ul>
            {refusals.map((line) => (
              <li key={line}>{shown(line)}</li>
            ))}
          </ul>
        </div>
      )}
    </section>
  );
}
