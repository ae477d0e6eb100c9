import { useRef, useState } from "preact/hooks";
import { HOST } from "../../../isolation/assignment.js";
import { shown } from "../../../picture/text.js";
import { GpuCard } from "./gpu_card.js";
import { count, nameList } from "./plan_words.js";
import type { GpuPreview } from "./preview.js";

interface Props {
  gpus: readonly GpuPreview[];
  owners: readonly string[];
  /** Members of owners that are no GPUs, by owner. */
  others: ReadonlyMap<string, readonly string[]>;
  /** A name for who is added by dropping a GPU. */
  freeName: string;
  onMove(gpu: GpuPreview, owner: string): void;
  /** Adds an owner, with a GPU where one was dropped; says why it cannot. */
  onAdd(name: string, gpu?: GpuPreview): string | undefined;
  onRemove(name: string): void;
}

/** Owners with their GPUs. */
export function OwnerBoard({ gpus, owners, others, freeName, onMove, onAdd, onRemove }: Props) {
  const dragged = useRef<GpuPreview | undefined>(undefined);
  const [over, setOver] = useState<string>();
  const onDrag = (gpu: GpuPreview | undefined) => {
    dragged.current = gpu;
    if (gpu === undefined) setOver(undefined);
  };
  const target = (owner: string, drop: (gpu: GpuPreview) => void) => ({
    "data-over": over === owner ? "" : undefined,
    onDragOver: (event: DragEvent) => {
      if (dragged.current === undefined) return;
      event.preventDefault();
      if (over !== owner) setOver(owner);
    },
    onDragLeave: (event: DragEvent) => {
      const into = event.relatedTarget;
      const inside = into instanceof Node && (event.currentTarget as Node).contains(into);
      if (over === owner && !inside) setOver(undefined);
    },
    onDrop: (event: DragEvent) => {
      event.preventDefault();
      setOver(undefined);
      if (dragged.current !== undefined) drop(dragged.current);
      dragged.current = undefined;
    },
  });
  return (
    <div class="plan-owners">
      {owners.map((owner, index) => {
        const own = gpus.filter((gpu) => gpu.owner === owner);
        const inUse = own.flatMap(({ name, client }) => (client === undefined ? [] : [name]));
        const besides = others.get(owner) ?? [];
        return (
          // biome-ignore lint/a11y/useSemanticElements: no form is asked for; a fieldset is no place to drop things on.
          <div
            key={owner}
            class="plan-owner"
            style={{ "--plan-count": Math.min(Math.max(own.length, 1), 3) }}
            role="group"
            aria-labelledby={`plan-owner-${index}`}
            {...target(owner, (gpu) => onMove(gpu, owner))}
          >
            <div class="plan-owner-head">
              <h3 id={`plan-owner-${index}`}>{shown(owner)}</h3>
              <small>{count(own.length, "GPU")}</small>
              {inUse.length > 0 && <small class="plan-in-use">in use: {nameList(inUse)}</small>}
              {owner !== HOST && own.length === 0 && (
                <button type="button" onClick={() => onRemove(owner)}>
                  Remove <span class="plan-hidden">{shown(owner)}</span>
                </button>
              )}
            </div>
            {besides.length > 0 && <p>besides: {besides.join(", ")}</p>}
            <ul class="plan-cards" aria-label={`GPUs of ${shown(owner)}`}>
              {own.map((gpu) => (
                <GpuCard key={gpu.address} gpu={gpu} owners={owners} onMove={onMove} onDrag={onDrag} />
              ))}
            </ul>
            {own.length === 0 && <p class="plan-empty">{owner === HOST ? "no GPU" : "no GPU: it will not be there"}</p>}
          </div>
        );
      })}
      <NewOwner freeName={freeName} onAdd={onAdd} target={target} />
    </div>
  );
}

/** The id of the field for a new owner's name. */
export const NEW_OWNER = "plan-new-owner";

interface NewOwnerProps extends Pick<Props, "freeName" | "onAdd"> {
  target(owner: string, drop: (gpu: GpuPreview) => void): object;
}

function NewOwner({ freeName, onAdd, target }: NewOwnerProps) {
  const [typed, setTyped] = useState("");
  const [problem, setProblem] = useState<string>();
  const add = (gpu?: GpuPreview) => {
    const name = typed.trim();
    const found = onAdd(name === "" ? freeName : name, gpu);
    setProblem(found);
    if (found === undefined) setTyped("");
  };
  return (
    <form
      class="plan-owner plan-new"
      aria-labelledby="plan-new"
      onSubmit={(event) => {
        event.preventDefault();
        add();
      }}
      {...target("+", add)}
    >
      <h3 id="plan-new">New owner</h3>
      <label class="plan-field" for={NEW_OWNER}>
        Name
      </label>
      <div class="plan-row">
        <input
          id={NEW_OWNER}
          value={typed}
          placeholder={freeName}
          autocomplete="off"
          spellcheck={false}
          aria-invalid={problem !== undefined}
          aria-describedby="plan-new-problem"
          onInput={(event) => setTyped(event.currentTarget.value)}
        />
        <button type="submit">Add</button>
      </div>
      <p id="plan-new-problem" class="plan-problem-text" role="alert">
        {problem}
      </p>
      <p class="plan-empty">Drop a GPU here to give it to somebody new.</p>
    </form>
  );
}
