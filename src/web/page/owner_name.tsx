import { ownerColour } from "../../picture/svg_style.js";
import { Name } from "./tag.js";

/** An owner, with the colour that the picture has for it. */
export function OwnerName({ name, owners }: { name: string; owners: readonly string[] }) {
  const index = owners.indexOf(name);
  if (index < 0) return <Name text={name} />;
  return (
    <span class="owner">
      <span class="swatch" aria-hidden="true" style={{ background: ownerColour(index) }} />
      <Name text={name} />
    </span>
  );
}
