import { shown } from "../../../picture/text.js";
import { CopyButton } from "../copy_button.js";

/** The command that does what is planned, to copy. */
export function CommandBox({ command }: { command: string | undefined }) {
  return (
    <section class="plan-command" aria-labelledby="plan-command">
      <h3 id="plan-command">As a command</h3>
      {command === undefined ? (
        <p>Nothing changes, so there is no command.</p>
      ) : (
        <>
          <pre>
            <code>{shown(command)}</code>
          </pre>
          <div class="plan-row">
            <CopyButton text={command} what="command" />
          </div>
        </>
      )}
    </section>
  );
}
