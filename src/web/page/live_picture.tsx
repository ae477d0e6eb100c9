import { pictureOf } from "../../picture/picture.js";
import { MachinePicture } from "./machine_picture.js";
import type { View } from "./view.js";

/** The machine as it is, drawn again when links or owners have changed. */
export function LivePicture({ machine, assignments, planning }: Pick<View, "machine" | "assignments" | "planning">) {
  return (
    <MachinePicture
      label="Picture of the machine"
      ids="live-"
      machine={machine}
      picture={() => pictureOf(machine, assignments, planning)}
      inputs={[assignments, planning]}
    />
  );
}
