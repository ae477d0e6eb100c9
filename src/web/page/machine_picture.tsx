import type { Machine } from "../../machine/machine.js";
import { layOut } from "../../picture/layout.js";
import { linkCount, MOST_LINKS } from "../../picture/most_links.js";
import type { Picture } from "../../picture/picture.js";
import { toSvg } from "../../picture/svg.js";
import { shown } from "../../picture/text.js";
import { counted } from "./counted.js";
import { ScrollRegion } from "./section.js";
import { useWorkedOut } from "./worked_out.js";

interface Props {
  label: string;
  /** What ids in the picture begin with: no two pictures of a page may share one. */
  ids: string;
  machine: Machine;
  /** Makes the picture. */
  picture: () => Picture;
  /** What it is made from besides the machine: it is drawn again when one of these is another. */
  inputs: readonly unknown[];
}

/** A picture of the machine, where it does not have more links than a picture can show. */
export function MachinePicture({ label, ids, machine, picture, inputs }: Props) {
  const links = linkCount(machine);
  const tooMany = links > MOST_LINKS;
  const draw = () => (tooMany ? "" : toSvg(layOut(picture()), { ids }));
  const { value: svg, error } = useWorkedOut(draw, [machine, ...inputs]);
  if (tooMany) {
    return (
      <p class="note">
        {counted(links, "link")} are too many for a picture ({MOST_LINKS} at most).
      </p>
    );
  }
  if (error !== undefined) return <p class="note bad">The picture cannot be drawn: {shown(error)}.</p>;
  return (
    <ScrollRegion label={label}>
      <div class="picture" dangerouslySetInnerHTML={{ __html: svg }} />
    </ScrollRegion>
  );
}
