import type { Plan } from "../../../isolation/plan.js";
import type { Assignment, Machine } from "../../../machine/machine.js";
import { plannedPicture } from "../../../picture/planned_picture.js";
import { MachinePicture } from "../machine_picture.js";
import type { View } from "../view.js";

interface Props {
  machine: Machine;
  assignments: readonly Assignment[];
  plan: Plan;
  planning: View["planning"];
}

/** The machine as it would be. */
export function PlannedPictureView({ machine, assignments, plan, planning }: Props) {
  return (
    <div class="plan-picture">
      <h3>As it would be</h3>
      <MachinePicture
        label="Picture of the plan"
        ids="plan-"
        machine={machine}
        picture={() => plannedPicture(machine, assignments, plan, planning)}
        inputs={[assignments, planning]}
      />
    </div>
  );
}
