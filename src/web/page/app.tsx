import { useEffect, useMemo } from "preact/hooks";
import { audit } from "../../isolation/findings.js";
import { shown } from "../../picture/text.js";
import { Announcer } from "./announcer.js";
import { AttachView } from "./attach_view.js";
import { FencesView } from "./fences_view.js";
import { FindingsView } from "./findings_view.js";
import { IsolationView } from "./isolation_view.js";
import { LivePicture } from "./live_picture.js";
import { LostBanner, MachineHeader } from "./machine_header.js";
import { type OverallState, overallState } from "./overall_state.js";
import { PlanMode } from "./plan/plan_mode.js";
import { LostContext, Section } from "./section.js";
import { Tag } from "./tag.js";
import { TimelineView } from "./timeline_view.js";
import type { View } from "./view.js";

const SECTIONS = [
  { id: "picture", title: "Picture" },
  { id: "findings", title: "Findings" },
  { id: "fences", title: "Fences" },
  { id: "timeline", title: "Timeline" },
  { id: "isolation", title: "Isolation" },
  { id: "attach", title: "Attach" },
  { id: "plan", title: "Plan" },
] as const;

/** The whole page. */
export function App({ view }: { view: View }) {
  const { machine, assignments, planning, state, lost } = view;
  const found = useMemo(() => audit(machine, assignments, planning), [machine, assignments, planning]);
  const overall = overallState(view, found.findings);
  useEffect(() => {
    document.title = titleOf(view, overall);
  });
  // What depends on the machine alone is not looked at again with each event.
  const findings = useMemo(() => <FindingsView {...found} />, [found]);
  const isolation = useMemo(() => <IsolationView machine={machine} planning={planning} />, [machine, planning]);
  const attach = useMemo(() => <AttachView state={state} assignments={assignments} />, [state, assignments]);
  const fences = useMemo(() => <FencesView state={state} assignments={assignments} />, [state, assignments]);
  return (
    <LostContext.Provider value={lost}>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <div class={lost === undefined ? "page" : "page stale"}>
        <MachineHeader view={view} overall={overall} />
        <div class="bar-above">
          <LostBanner lost={lost} />
          <Nav overall={overall} />
        </div>
        <main id="main" tabIndex={-1}>
          <Section id="picture" title="Picture">
            <LivePicture machine={machine} assignments={assignments} planning={planning} />
          </Section>
          <Section id="findings" title="Findings">
            {findings}
          </Section>
          <Section id="fences" title="Fences">
            {fences}
          </Section>
          <Section id="timeline" title="Timeline">
            <TimelineView {...view} />
          </Section>
          <Section id="isolation" title="Isolation">
            {isolation}
          </Section>
          <Section id="attach" title="Attach">
            {attach}
          </Section>
          <Section id="plan" title="Plan">
            <PlanMode view={view} />
          </Section>
        </main>
        <footer>
          <p>linkfence{machine.virtual ? "; all of this is virtual hardware" : ""}</p>
        </footer>
      </div>
      <Announcer history={view.history} />
    </LostContext.Provider>
  );
}

function Nav({ overall }: { overall: OverallState }) {
  return (
    <nav aria-label="Parts of this page">
      <Tag tone={overall.tone} words={overall.short} />
      <ul>
        {SECTIONS.map(({ id, title }) => (
          <li key={id}>
            <a href={`#${id}`}>{title}</a>
          </li>
        ))}
      </ul>
    </nav>
  );
}

/** The state first, for a tab shows no more than a few letters. */
function titleOf({ machine }: View, { short }: OverallState): string {
  return `${short}: ${shown(machine.name)}${machine.virtual ? " (virtual)" : ""}, linkfence`;
}
