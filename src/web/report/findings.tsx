import { FINDING_WORDS } from "../../isolation/finding_words.js";
import type { Audit } from "../../isolation/findings.js";
import { Section } from "./words.js";

/** What crosses between owners, by the numbers that the picture has, each with what ends it. */
export function Findings({ findings }: Pick<Audit, "findings">) {
  return (
    <Section id="findings" title="Findings">
      {findings.length === 0 && <p>Nothing crosses between owners, as far as is known.</p>}
      {findings.length > 0 && (
        <ol class="findings">
          {findings.map(({ kind, reason, action }, index) => (
            <li key={index} id={`finding-${index + 1}`}>
              <span class="badge">{index + 1}</span>
              <div>
                <p>
                  <span class="kind">{FINDING_WORDS[kind]}</span> {reason}
                </p>
                <p class="action">
                  <span class="label">What to do:</span> {action}
                </p>
              </div>
            </li>
          ))}
        </ol>
      )}
    </Section>
  );
}

/** What the source could not say, and what the audit has to add. */
export function NotKnown({ unknown, notes }: Pick<Audit, "unknown" | "notes">) {
  return (
    <>
      <Section id="unknown" title="Not known">
        {unknown.length === 0 && <p>Nothing that was looked for stayed unknown.</p>}
        <ul>
          {unknown.map(({ what, action }, index) => (
            <li key={index}>
              {what}
              {action !== undefined && (
                <>
                  {" "}
                  <span class="label">What to do:</span> {action}
                </>
              )}
            </li>
          ))}
        </ul>
      </Section>
      {notes.length > 0 && (
        <Section id="notes" title="Notes">
          <ul>
            {notes.map((note, index) => (
              <li key={index}>{note}</li>
            ))}
          </ul>
        </Section>
      )}
    </>
  );
}
