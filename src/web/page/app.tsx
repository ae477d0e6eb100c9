import { layOut } from "../../picture/layout.js";
import { pictureOf } from "../../picture/picture.js";
import { toSvg } from "../../picture/svg.js";
import type { View } from "./connection.js";
import { PlanMode } from "./plan/plan_mode.js";

/** The whole page. */
export function App({ view }: { view: View }) {
  const { machine, state, planning } = view;
  const svg = toSvg(layOut(pictureOf(machine, state.status.assignments, planning)));
  return (
    <main>
      <h1>{machine.name}</h1>
      <div dangerouslySetInnerHTML={{ __html: svg }} />
      <section id="plan">
        <PlanMode view={view} />
      </section>
    </main>
  );
}
