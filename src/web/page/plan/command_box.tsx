/** @jsxRuntime automatic @jsxImportSource preact */
import { useRef, useState } from "preact/hooks";

/** The command that does what is planned, to copy. */
export function CommandBox({ command }: { command: string | undefined }) {
  const code = useRef<HTMLElement>(null);
  const [said, setSaid] = useState<{ of: string; line: string }>();
  const copy = async () => {
    if (command === undefined) return;
    try {
      await navigator.clipboard.writeText(command);
      setSaid({ of: command, line: "Copied." });
    } catch {
      // No clipboard but over HTTPS or on this very host, or it is not allowed.
      if (code.current !== null) getSelection()?.selectAllChildren(code.current);
      setSaid({ of: command, line: "Selected: copy it with Ctrl+C or ⌘C." });
    }
  };
  return (
    <section class="plan-command" aria-labelledby="plan-command">
      <h3 id="plan-command">As a command</h3>
      {command === undefined ? (
        <p>Nothing changes, so there is no command.</p>
      ) : (
        <>
          <pre>
            <code ref={code}>{command}</code>
          </pre>
          <div class="plan-row">
            <button type="button" onClick={copy}>
              Copy command
            </button>
            <span role="status">{said?.of === command ? said.line : ""}</span>
          </div>
        </>
      )}
    </section>
  );
}
