import { numberRuns } from "../../isolation/number_runs.js";
import type { Gpu } from "../../machine/machine.js";
import { shown } from "../../picture/text.js";
import { counted } from "./counted.js";
import type { Tone } from "./overall_state.js";
import { OwnerName } from "./owner_name.js";
import { Moment } from "./page_time.js";
import { GpuRegisters } from "./register_table.js";
import { ScrollRegion } from "./section.js";
import { Name, Tag } from "./tag.js";
import type { View } from "./view.js";

type Functions = View["state"]["status"]["functions"];
type Fence = NonNullable<Functions[number]["fence"]>;
interface FencedGpu {
  fn: Functions[number];
  fence: Fence;
  gpu: Gpu | undefined;
}

const TONES: Record<Fence["state"], Tone> = {
  "in force": "good",
  renewing: "waiting",
  failed: "bad",
  unfenced: "waiting",
};
const WORDS: Record<Fence["state"], string> = {
  "in force": "in force",
  renewing: "being renewed",
  failed: "failed",
  unfenced: "not fenced",
};

/** With more GPUs than these their registers are shown for those that somebody asks for. */
const OPEN_AT_ONCE = 8;

/** Every GPU's fence, and what its registers say. */
export function FencesView({ state, assignments }: Pick<View, "state" | "assignments">) {
  const gpuAt = new Map(state.gpus.map((gpu) => [gpu.address, gpu]));
  const gpus = state.status.functions.flatMap((fn) =>
    fn.fence === undefined ? [] : [{ fn, fence: fn.fence, gpu: gpuAt.get(fn.address) }],
  );
  if (gpus.length === 0) return <p>This machine has no GPUs, so there is nothing to fence.</p>;
  const owners = assignments.filter(({ members }) => members.length > 0).map(({ name }) => name);
  return (
    <>
      <ScrollRegion label="Fences of all GPUs" high={gpus.length > 12}>
        <FenceTable gpus={gpus} owners={owners} />
      </ScrollRegion>
      <Remarks gpus={gpus} />
      <h3>Registers in words</h3>
      <p class="dim">What was read of each GPU, and is read again every two seconds and after each reset.</p>
      <div class="cards">
        {gpus.map(({ fn, gpu }) => (
          <GpuRegisters
            key={fn.address}
            name={fn.name}
            address={fn.address}
            gpu={gpu}
            open={gpus.length <= OPEN_AT_ONCE}
          />
        ))}
      </div>
    </>
  );
}

function FenceTable({ gpus, owners }: { gpus: readonly FencedGpu[]; owners: readonly string[] }) {
  return (
    <table class="fences">
      <caption class="unseen">The fence of each GPU: what is expected of its links, and what is so</caption>
      <thead>
        <tr>
          {[
            "GPU",
            "Address",
            "Owner",
            "Fence",
            "Since",
            "Client",
            "Links cut",
            "Links up",
            "Mask expected",
            "Mask read",
          ].map((title) => (
            <th key={title} scope="col">
              {title}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {gpus.map(({ fn, fence }) => (
          <tr key={fn.address}>
            <th scope="row">
              <Name text={fn.name} />
            </th>
            <td class="mono">{fn.address}</td>
            <td>
              <OwnerName name={fn.assignment} owners={owners} />
            </td>
            <td>
              <Tag tone={TONES[fence.state]} words={WORDS[fence.state]} />
            </td>
            <td>{fence.since === null ? "–" : <Moment at={fence.since} />}</td>
            <td>{fn.client === null ? "none" : <ClientText {...fn.client} />}</td>
            <td>
              <LinksCut {...fence} />
            </td>
            <td>{fence.actual.linksUp === null ? "not known" : numberRuns(fence.actual.linksUp) || "none"}</td>
            <td class="mono">{fence.expected.disableMask ?? "–"}</td>
            <td>
              <MaskRead {...fence} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function ClientText({ pid, uid, since }: { pid: number; uid: number; since: string }) {
  return (
    <>
      process {pid}, uid {uid}, since <Moment at={since} />
    </>
  );
}

/** The links that are cut, where it differs besides those that should be. */
function LinksCut({ expected, actual }: Fence) {
  const planned = numberRuns(expected.cut) || "none";
  if (actual.cut === null) return <>{planned} expected, not known</>;
  const is = numberRuns(actual.cut) || "none";
  return <>{is === planned ? is : `${is}; ${planned} expected`}</>;
}

function MaskRead({ expected, actual }: Fence) {
  if (actual.disableMask === null) return <>–</>;
  const differs = expected.disableMask !== null && actual.disableMask !== expected.disableMask;
  return (
    <>
      <span class="mono">{actual.disableMask}</span>
      {differs && " (differs)"}
    </>
  );
}

interface Remark {
  tone: "bad" | "waiting";
  text: string;
}

/** Why fences have failed, what waits for a reset, and what functions go without; once for all that it is the same for. */
function Remarks({ gpus }: { gpus: readonly FencedGpu[] }) {
  const remarks = new Map<string, Remark & { names: string[] }>();
  for (const gpu of gpus) {
    for (const { tone, text } of remarksOn(gpu)) {
      const same = remarks.get(`${tone} ${text}`) ?? { tone, text, names: [] };
      remarks.set(`${tone} ${text}`, same);
      same.names.push(gpu.fn.name);
    }
  }
  if (remarks.size === 0) return null;
  return (
    <ul class="plain">
      {[...remarks].map(([key, { tone, text, names }]) => (
        <li key={key}>
          <Tag tone={tone} words={tone === "bad" ? "failed" : "note"} />{" "}
          {names.map((name, index) => (
            <>
              {index > 0 && ", "}
              <Name text={name} />
            </>
          ))}
          : {shown(text)}
        </li>
      ))}
    </ul>
  );
}

function remarksOn({ fn, fence }: FencedGpu): Remark[] {
  const { state, reason, stillCut } = fence;
  const links = `${counted(stillCut.length, "link")} (${numberRuns(stillCut)})`;
  return [
    ...(state === "failed" ? [{ tone: "bad" as const, text: reason ?? "no reason is known" }] : []),
    ...(stillCut.length > 0 ? [{ tone: "waiting" as const, text: `${links} cut until its next reset` }] : []),
    ...fn.warnings.map((text) => ({ tone: "waiting" as const, text })),
  ];
}
