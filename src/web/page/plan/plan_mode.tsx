import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { HOST } from "../../../isolation/assignment.js";
import type { Assignment, Machine } from "../../../machine/machine.js";
import { fitted, shown } from "../../../picture/text.js";
import type { View } from "../connection.js";
import { ApplyForm } from "./apply_form.js";
import { assignCommand, changesBetween } from "./assignment_changes.js";
import { CommandBox } from "./command_box.js";
import {
  assignmentsOf,
  type Draft,
  freeName,
  isUntouched,
  newDraft,
  newOwnerProblem,
  ownersIn,
  rebased,
  settled,
  withMove,
  withOwner,
  withoutOwner,
} from "./draft.js";
import { ownerFieldId } from "./gpu_card.js";
import { NEW_OWNER, OwnerBoard } from "./owner_board.js";
import { nameList, verdict } from "./plan_words.js";
import { PlannedPictureView } from "./planned_picture_view.js";
import { currentAssignments, type GpuPreview, previewOf } from "./preview.js";
import { useUnchanged } from "./unchanged.js";
import { VerdictPanel } from "./verdict_panel.js";

/** Who has which GPU, as it might be: moved about before anything is touched. */
export function PlanMode({ view }: { view: View }) {
  const { machine } = view;
  const { status } = view.state;
  const current = currentAssignments(status);
  const [kept, setDraft] = useState<Draft>(() => newDraft(current));
  const draft = settled(machine, kept, current);
  useEffect(() => {
    if (draft !== kept) setDraft(draft);
  });
  const assignments = useUnchanged(assignmentsOf(machine, draft));
  const { planning } = view;
  const preview = useMemo(
    () => previewOf(machine, assignments, status, planning),
    [machine, assignments, status, planning],
  );
  const stale = changesBetween(draft.base, current).length > 0;
  const [said, setSaid] = useState("");
  const [busySince, setBusySince] = useState<number>();
  const focus = useFocusLater();

  const change = (next: Draft, gpu?: GpuPreview) => {
    setDraft(next);
    if (gpu === undefined) return;
    const after = previewOf(machine, assignmentsOf(machine, next), status, planning);
    const owner = after.gpus.find(({ address }) => address === gpu.address)?.owner ?? HOST;
    setSaid(`${fitted(gpu.name, 40)} to ${shown(owner)}: ${verdict(after)}`);
  };
  const onMove = (gpu: GpuPreview, owner: string) => {
    change(withMove(machine, draft, gpu.address, owner), gpu);
    focus(ownerFieldId(gpu));
  };
  const onAdd = (name: string, gpu?: GpuPreview) => {
    const problem = newOwnerProblem(draft, name);
    if (problem !== undefined) return problem;
    const next = withOwner(draft, name);
    if (gpu === undefined) setSaid(`${name} added: it has no GPU yet`);
    change(gpu === undefined ? next : withMove(machine, next, gpu.address, name), gpu);
    return undefined;
  };
  const onRemove = (name: string) => {
    change(withoutOwner(draft, name));
    setSaid(`${name} removed`);
    focus(NEW_OWNER);
  };
  const restart = (next: Draft, words: string) => {
    setDraft(next);
    setSaid(words);
  };

  return (
    <div class="plan">
      <p>
        Move GPUs between owners and see what would become of their links. Nothing is touched before you apply it
        {machine.virtual ? "; this machine is virtual." : ", which touches the hardware of this host."}
      </p>
      <p id="plan-keys">Drag a card, choose in its field, or press ← and → there.</p>
      <div class="plan-row">
        <button type="button" onClick={() => restart(newDraft(current), "plan reset: all stays as it is")}>
          Reset plan
        </button>
        {isUntouched(draft) && <span>This is what is assigned now.</span>}
      </div>
      {stale && (
        <div class="plan-stale" role="alert">
          <p>
            <strong>Assignments have changed since this plan began.</strong> Now: {ownersInWords(current, machine)}.
          </p>
          <div class="plan-row">
            <button type="button" onClick={() => restart(newDraft(current), "plan begun anew")}>
              Start anew
            </button>
            <button
              type="button"
              onClick={() => restart(rebased(machine, draft, current), "your moves are on what is assigned now")}
            >
              Keep my moves
            </button>
          </div>
        </div>
      )}
      {machine.gpus.length === 0 && <p>This machine has no GPUs.</p>}
      <OwnerBoard
        gpus={preview.gpus}
        owners={ownersIn(draft)}
        others={othersIn(assignments, machine)}
        freeName={freeName(draft)}
        onMove={onMove}
        onAdd={onAdd}
        onRemove={onRemove}
      />
      <p class="plan-said" role="status">
        {said}
      </p>
      <VerdictPanel preview={preview} />
      <PlannedPictureView machine={machine} assignments={assignments} plan={preview.plan} planning={planning} />
      <CommandBox
        command={preview.texts.length === 0 || stale ? undefined : assignCommand(status.socketDir, preview.texts)}
      />
      <ApplyForm
        preview={preview}
        virtual={machine.virtual}
        blocked={blockedBy(view.connected, stale)}
        progress={progressOf(view, busySince)}
        onBusy={(busy) => setBusySince(busy ? (view.history.at(-1)?.number ?? 0) : undefined)}
      />
    </div>
  );
}

/** Puts the focus onto what has this id when it is there again: what moves in a page loses it. */
function useFocusLater(): (id: string) => void {
  const wanted = useRef<string | undefined>(undefined);
  useLayoutEffect(() => {
    if (wanted.current === undefined) return;
    document.getElementById(wanted.current)?.focus();
    wanted.current = undefined;
  });
  return (id) => {
    wanted.current = id;
  };
}

/** Members that are no GPUs, by owner. */
function othersIn(assignments: readonly Assignment[], { gpus }: Machine): Map<string, string[]> {
  const addresses = new Set(gpus.map(({ address }) => address));
  return new Map(assignments.map(({ name, members }) => [name, members.filter((member) => !addresses.has(member))]));
}

function ownersInWords(assignments: readonly Assignment[], { gpus }: Machine): string {
  const names = new Map(gpus.map(({ address, name }) => [address, name]));
  const words = assignments.map(
    ({ name, members }) => `${shown(name)} (${nameList(members.map((each) => names.get(each) ?? each))})`,
  );
  return words.length === 0 ? "nothing is assigned" : words.join(", ");
}

function blockedBy(connected: boolean, stale: boolean): string | undefined {
  if (!connected) return "The server is not there at the moment.";
  return stale ? "Assignments have changed since this plan began: say above what is to become of it." : undefined;
}

/** What the server has last done to a GPU since a change began. */
function progressOf({ history }: View, since: number | undefined): string | undefined {
  if (since === undefined) return undefined;
  const last = history.findLast(({ event, number }) => event === "fence" && number > since);
  return last === undefined ? undefined : `${shown(String(last.gpu))}: ${last.step}`;
}
