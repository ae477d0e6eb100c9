import { shown } from "../../picture/text.js";
import { counted } from "./counted.js";
import type { OverallState } from "./overall_state.js";
import { Moment } from "./page_time.js";
import { Name, Tag } from "./tag.js";
import type { Lost, View } from "./view.js";

/** Which machine this is, who serves it, and how it stands. */
export function MachineHeader({ view, overall }: { view: View; overall: OverallState }) {
  const { machine, state, lost } = view;
  const { pid, startedAt, tier } = state.status;
  const attached = state.status.functions.filter(({ client }) => client !== null).length;
  return (
    <header>
      <h1>
        <Name text={machine.name} />
        {machine.virtual && <span class="virtual">virtual hardware</span>}
      </h1>
      <p class="summary">
        <Tag tone={overall.tone} words={overall.short} /> {shown(overall.long)}
      </p>
      <dl class="facts">
        <div>
          <dt>Connection</dt>
          <dd>
            {lost === undefined ? (
              "live"
            ) : (
              <>
                lost since <Moment at={lost.since} />
              </>
            )}
          </dd>
        </div>
        <div>
          <dt>Server</dt>
          <dd>
            process {pid}, since <Moment at={startedAt} />
          </dd>
        </div>
        <div>
          <dt>Machine</dt>
          <dd>
            {counted(machine.gpus.length, "GPU")}, {counted(machine.functions.length, "PCI function")}, from{" "}
            <Name text={machine.source} />
          </dd>
        </div>
        <div>
          <dt>Clients</dt>
          <dd>{attached === 0 ? "none attached" : `${attached} attached`}</dd>
        </div>
        {tier !== undefined && (
          <div>
            <dt>BARs</dt>
            <dd>{tier === "mediated" ? "mediated" : "by the VFIO device itself: whoever runs a VM must be trusted"}</dd>
          </div>
        )}
      </dl>
    </header>
  );
}

/** What stands above everything while nothing is known of now. */
export function LostBanner({ lost }: { lost: Lost | undefined }) {
  return (
    <div role="alert">
      {lost !== undefined && (
        <p class="lost">
          <strong>
            <span aria-hidden="true">? </span>Not live since <Moment at={lost.since} />:
          </strong>{" "}
          {shown(lost.why)}. All that is shown is as it was then.
        </p>
      )}
    </div>
  );
}
