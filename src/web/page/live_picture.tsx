import { layOut } from "../../picture/layout.js";
import { pictureOf } from "../../picture/picture.js";
import { toSvg } from "../../picture/svg.js";
import { shown } from "../../picture/text.js";
import { counted } from "./counted.js";
import { ScrollRegion } from "./section.js";
import type { View } from "./view.js";
import { useWorkedOut } from "./worked_out.js";

/** More links than these are no picture any more. */
const MOST_LINKS = 20_000;

/** The machine as it is, drawn again when links or owners have changed. */
export function LivePicture({ machine, assignments, planning }: Pick<View, "machine" | "assignments" | "planning">) {
  const links = machine.gpus.reduce((sum, gpu) => sum + gpu.links.length, 0);
  const tooMany = links > MOST_LINKS;
  const { value: svg, error } = useWorkedOut(
    () => (tooMany ? "" : toSvg(layOut(pictureOf(machine, assignments, planning)), { ids: "live-" })),
    [machine, assignments, planning],
  );
  if (tooMany) {
    return (
      <p class="note">
        {counted(links, "link")} are too many for a picture ({MOST_LINKS} at most).
      </p>
    );
  }
  if (error !== undefined) return <p class="note bad">The picture cannot be drawn: {shown(error)}.</p>;
  return (
    <ScrollRegion label="Picture of the machine">
      <div class="picture" dangerouslySetInnerHTML={{ __html: svg }} />
    </ScrollRegion>
  );
}
