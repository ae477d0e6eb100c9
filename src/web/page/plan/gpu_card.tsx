import { HOST } from "../../../isolation/assignment.js";
import { shown } from "../../../picture/text.js";
import { changeLines, linkList, maskText } from "./plan_words.js";
import type { GpuPreview } from "./preview.js";

interface Props {
  gpu: GpuPreview;
  owners: readonly string[];
  onMove(gpu: GpuPreview, owner: string): void;
  onDrag(gpu: GpuPreview | undefined): void;
}

/** The id of what has the focus in a GPU's card. */
export function ownerFieldId({ address }: Pick<GpuPreview, "address">): string {
  return `plan-owner-of-${address}`;
}

/** A GPU with what the plan makes of it. Dragged, or moved by its field or the arrow keys. */
export function GpuCard({ gpu, owners, onMove, onDrag }: Props) {
  const movable = gpu.unassignable === undefined || gpu.owner !== HOST;
  const changes = changeLines(gpu);
  const moved = gpu.owner !== gpu.ownerNow;
  const step = (event: KeyboardEvent) => {
    const by = event.key === "ArrowLeft" ? -1 : event.key === "ArrowRight" ? 1 : 0;
    if (by === 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const owner = owners[owners.indexOf(gpu.owner) + by];
    if (owner !== undefined) onMove(gpu, owner);
  };
  return (
    <li
      class={`plan-card${moved || changes.length > 0 ? " plan-changed" : ""}`}
      draggable={movable}
      onDragStart={(event) => {
        // Firefox drags nothing that carries nothing.
        event.dataTransfer?.setData("text/plain", gpu.name);
        onDrag(gpu);
      }}
      onDragEnd={() => onDrag(undefined)}
    >
      <div class="plan-card-head">
        <strong>{shown(gpu.name)}</strong>
        {gpu.name !== gpu.address && <small>{gpu.address}</small>}
        <small>{gpu.part}</small>
        {moved && <span class="plan-tag">from {shown(gpu.ownerNow)}</span>}
      </div>
      {movable ? (
        <div class="plan-field">
          <label for={ownerFieldId(gpu)}>
            Owner<span class="plan-hidden"> of {shown(gpu.name)}</span>
          </label>
          <select
            id={ownerFieldId(gpu)}
            value={owners.indexOf(gpu.owner)}
            aria-describedby="plan-keys"
            onKeyDown={step}
            onChange={(event) => onMove(gpu, owners[event.currentTarget.selectedIndex] ?? gpu.owner)}
          >
            {owners.map((owner, index) => (
              <option key={owner} value={index}>
                {shown(owner)}
              </option>
            ))}
          </select>
        </div>
      ) : (
        <p>{gpu.unassignable}</p>
      )}
      {gpu.client !== undefined && (
        <p class="plan-in-use">
          In use by {gpu.client}: it cannot leave {shown(gpu.ownerNow)} until that ends.
        </p>
      )}
      <Links gpu={gpu} />
      {changes.length > 0 && (
        <ul class="plan-changes">
          {changes.map((line) => (
            <li key={line}>{line}</li>
          ))}
        </ul>
      )}
    </li>
  );
}

function Links({ gpu }: { gpu: GpuPreview }) {
  if (gpu.untouched !== undefined) return gpu.unassignable === undefined ? <p>{gpu.untouched}</p> : null;
  return (
    <dl class="plan-links">
      {gpu.mask !== null && (
        <div>
          <dt>mask</dt>
          <dd>
            <Mask now={gpu.maskNow} mask={gpu.mask} />
          </dd>
        </div>
      )}
      <div>
        <dt>cut</dt>
        <dd>{gpu.cut.length === 0 ? "no link" : linkList(gpu.cut)}</dd>
      </div>
      <div>
        <dt>kept</dt>
        <dd>{gpu.kept.length === 0 ? "no link" : linkList(gpu.kept)}</dd>
      </div>
    </dl>
  );
}

function Mask({ now, mask }: { now: number | null; mask: number }) {
  if (now === mask) return <code>{maskText(mask)}</code>;
  return (
    <>
      <code>{now === null ? "not read" : maskText(now)}</code> <span aria-hidden="true">→</span>
      <span class="plan-hidden"> becomes </span> <ins>{maskText(mask)}</ins>
    </>
  );
}
