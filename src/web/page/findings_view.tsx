import { FINDING_WORDS } from "../../isolation/finding_words.js";
import type { Audit } from "../../isolation/findings.js";
import { shown } from "../../picture/text.js";
import { counted } from "./counted.js";
import { Tag } from "./tag.js";

/** So many of a kind are shown; with more than that nobody reads on, and the command line has all. */
const MOST = 200;

/** What crosses that should not, what is not known, and what to do about each. */
export function FindingsView({ findings, unknown, notes }: Audit) {
  return (
    <>
      {findings.length === 0 ? (
        <p>
          <Tag tone="good" words="clear" /> Nothing crosses between owners, as far as is known.
        </p>
      ) : (
        <FindingsList findings={findings} />
      )}
      {unknown.length > 0 && (
        <>
          <h3>Not known</h3>
          <ul class="plain">
            {unknown.slice(0, MOST).map(({ what, action }, index) => (
              <li key={index}>
                {shown(what)}
                {action !== undefined && <span class="action">→ {shown(action)}</span>}
              </li>
            ))}
          </ul>
          <More all={unknown.length} />
        </>
      )}
      {notes.length > 0 && (
        <>
          <h3>Notes</h3>
          <ul class="plain">
            {notes.slice(0, MOST).map((note, index) => (
              <li key={index}>{shown(note)}</li>
            ))}
          </ul>
          <More all={notes.length} />
        </>
      )}
    </>
  );
}

function FindingsList({ findings }: Pick<Audit, "findings">) {
  return (
    <>
      <p class="dim">{counted(findings.length, "finding")}, by the number that the picture has for each.</p>
      <ol class="findings">
        {findings.slice(0, MOST).map(({ kind, reason, action }, index) => (
          <li key={index} id={`finding-${index + 1}`}>
            <span class="badge">{index + 1}</span>
            <div>
              <strong>{FINDING_WORDS[kind]}</strong> {shown(reason)}
              <span class="action">→ {shown(action)}</span>
            </div>
          </li>
        ))}
      </ol>
      <More all={findings.length} />
    </>
  );
}

function More({ all }: { all: number }) {
  if (all <= MOST) return null;
  return <p class="note">{all - MOST} more: linkfence audit has all of them.</p>;
}
