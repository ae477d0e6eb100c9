import { useMemo } from "preact/hooks";
import type { Plan } from "../../../isolation/plan.js";
import type { Assignment, Machine } from "../../../machine/machine.js";
import { layOut } from "../../../picture/layout.js";
import { plannedPicture } from "../../../picture/planned_picture.js";
import { toSvg } from "../../../picture/svg.js";
import type { View } from "../connection.js";
import { useUnchanged } from "./unchanged.js";

interface Props {
  machine: Machine;
  assignments: readonly Assignment[];
  plan: Plan;
  planning: View["planning"];
}

/** The machine as it would be. */
export function PlannedPictureView({ machine, assignments, plan, planning }: Props) {
  const picture = useUnchanged(plannedPicture(machine, assignments, plan, planning));
  const svg = useMemo(() => toSvg(layOut(picture), { ids: "plan-" }), [picture]);
  return (
    <div class="plan-picture">
      <h3 id="plan-picture">As it would be</h3>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keyboard too. */}
      <section class="plan-scroll" aria-labelledby="plan-picture" tabIndex={0}>
        <div dangerouslySetInnerHTML={{ __html: svg }} />
      </section>
    </div>
  );
}
