import { useRef, useState } from "preact/hooks";
import { shown } from "../../../picture/text.js";
import { type Applied, applyChanges } from "./apply.js";
import { nameList } from "./plan_words.js";
import type { Preview } from "./preview.js";

interface Props {
  preview: Preview;
  virtual: boolean;
  /** What keeps it from being applied besides the plan itself. */
  blocked: string | undefined;
  /** What the server does at the moment, in words. */
  progress: string | undefined;
  onBusy(busy: boolean): void;
}

/** Has the server do what is planned, with the token that it has shown at its start. */
export function ApplyForm({ preview, virtual, blocked, progress, onBusy }: Props) {
  const [token, setToken] = useState("");
  const [busy, setBusy] = useState(false);
  const [result, setResult] = useState<Applied & { of: string }>();
  const plan = preview.texts.join(" ");
  // What has become of another plan says nothing of this one; what is applied leaves none.
  const applied = result?.of === plan || plan === "" ? result : undefined;
  const dialog = useRef<HTMLDialogElement>(null);
  const reason = busy ? "The server is at work." : (blocked ?? whyNot(preview, token));
  const apply = async () => {
    dialog.current?.close();
    setBusy(true);
    onBusy(true);
    setResult(undefined);
    setResult({ ...(await applyChanges(token, preview.texts)), of: plan });
    setBusy(false);
    onBusy(false);
  };
  return (
    <section class="plan-apply" aria-labelledby="plan-apply">
      <h3 id="plan-apply">Apply it</h3>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (reason === undefined) dialog.current?.showModal();
        }}
      >
        <label class="plan-field" for="plan-token">
          Token shown at start
        </label>
        <div class="plan-row">
          <input
            id="plan-token"
            type="password"
            autocomplete="off"
            spellcheck={false}
            value={token}
            onInput={(event) => setToken(event.currentTarget.value)}
          />
          <button type="submit" aria-disabled={reason !== undefined} aria-describedby="plan-why-not">
            Apply plan …
          </button>
        </div>
        <p id="plan-why-not">{shown(reason ?? "Asks once more before anything is touched.")}</p>
      </form>
      <p role="status">{busy ? `Applying … ${progress ?? ""}` : ""}</p>
      <p role="alert" class={applied?.ok === false ? "plan-problem-text" : ""}>
        {applied !== undefined && `${applied.ok ? "✓" : "✗"} ${shown(applied.line)}`}
      </p>
      <dialog ref={dialog} class="plan-dialog" aria-labelledby="plan-confirm">
        <h3 id="plan-confirm">Apply this plan?</h3>
        <p>
          {virtual
            ? "This machine is virtual: no hardware is touched."
            : "This machine is real: its hardware is touched."}
        </p>
        <p>{preview.resets.length === 0 ? "No GPU is reset." : `These GPUs are reset: ${nameList(preview.resets)}.`}</p>
        <div class="plan-row">
          <button type="button" onClick={apply}>
            {virtual ? "Apply" : "Touch the hardware"}
          </button>
          <button type="button" onClick={() => dialog.current?.close()}>
            Cancel
          </button>
        </div>
      </dialog>
    </section>
  );
}

function whyNot({ texts, refusals }: Preview, token: string): string | undefined {
  if (texts.length === 0) return "Nothing changes, so there is nothing to apply.";
  if (refusals.length > 0) return `Not possible: ${refusals[0]}.`;
  return token.trim() === "" ? "Changes need the token." : undefined;
}
