import type { ComponentChildren } from "preact";
import type { Machine } from "../../machine/machine.js";
import { readTimes } from "./gpus.js";
import type { ReportSource } from "./report_source.js";
import { Table } from "./table.js";
import { Code, counted, Moment, Name, namesOf, Section } from "./words.js";

/** Who owns what. */
export function Owners({ machine, assignments, assignedBy }: ReportSource) {
  const given = assignments.filter(({ members }) => members.length > 0);
  const names = namesOf(machine);
  const assigned = new Set(given.flatMap(({ members }) => members));
  const hosts = machine.gpus.filter(({ address }) => !assigned.has(address)).map(({ address }) => address);
  return (
    <Section id="owners" title="Owners">
      {given.length === 0 ? (
        <p>No assignments were given, so each IOMMU group counts as one owner: that is what passthrough goes by.</p>
      ) : (
        <Table
          class="stacked"
          caption={`${counted(given.length, "assignment")}, from ${assignedBy}; what is in none belongs to the host`}
          head={["Owner", "GPUs", "Other functions"]}
          rows={[...given, ...(hosts.length > 0 ? [{ name: "host", members: hosts }] : [])].map(({ name, members }) => [
            <Name text={name} />,
            listed(members.flatMap((one) => names.get(one) ?? []).map((gpu) => <Name text={gpu} />)),
            listed(members.filter((one) => !names.has(one)).map((one) => <Code text={one} />)),
          ])}
        />
      )}
    </Section>
  );
}

function listed(items: readonly ComponentChildren[]): ComponentChildren {
  return items.length === 0 ? <span class="dim">none</span> : items.map((item) => <>{item} </>);
}

/** What the report was made from, and how somebody else makes it. */
export function Origin({ machine, command, again, version, at }: ReportSource) {
  const facts: [string, ComponentChildren][] = [
    ["Machine", <Name text={machine.name} />],
    ["Read from", machine.source],
    ["Hardware", machine.virtual ? "virtual: a model, no real GPU" : "real"],
    ["Platform", PLATFORMS[machine.platform]],
    ["Kernel", machine.kernel?.release ?? "not known"],
    ...commandLineOf(machine),
    ["Registers read", <RegistersRead machine={machine} />],
    ["Report made", <Moment at={at} />],
    ["By", `linkfence ${version}`],
    ["Command", <Code text={command} />],
  ];
  return (
    <Section id="origin" title="What this was made from">
      <dl>
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      <h3>To make it again</h3>
      <p class="dim">The same source makes the same report, but for its time. A host is shown as it is then.</p>
      <pre>
        <code>{again.join("\n")}</code>
      </pre>
    </Section>
  );
}

const PLATFORMS: Record<Machine["platform"], string> = {
  powernv: "POWER (powernv)",
  pc: "PC",
  unknown: "not known",
};

function commandLineOf({ kernel }: Machine): [string, ComponentChildren][] {
  const text = kernel?.commandLine?.trim() ?? "";
  return text === "" ? [] : [["Kernel command line", <Code text={text} />]];
}

function RegistersRead({ machine }: { machine: Machine }) {
  const read = machine.gpus.filter(({ links }) => links.some(({ evidence }) => evidence !== undefined)).length;
  const times = readTimes(machine);
  const [first] = times;
  if (read === 0) return <>none, so no link is proven cut</>;
  return (
    <>
      of {read} of {counted(machine.gpus.length, "GPU")}
      {first !== undefined && (
        <>
          , from <Moment at={first} /> to <Moment at={times.at(-1) ?? first} />
        </>
      )}
    </>
  );
}
