import type { ComponentChildren } from "preact";
import { HOST, ownersOf } from "../../isolation/assignment.js";
import { type LinkEnd, LinkGraph } from "../../isolation/links.js";
import { isCutHere, linkState } from "../../machine/link_state.js";
import type { Gpu, Link, Machine } from "../../machine/machine.js";
import { partFacts } from "../../machine/part.js";
import { registersInWords } from "../../machine/registers_in_words.js";
import type { ReportSource } from "./report_source.js";
import { Table } from "./table.js";
import { Code, counted, FindingNumber, LINK_STATES, Moment, Name, namesOf, Section } from "./words.js";

/** Each GPU's links, and the registers that prove what is said of them. */
export function Gpus({ machine, assignments, audit }: Pick<ReportSource, "machine" | "assignments" | "audit">) {
  const graph = new LinkGraph(machine);
  const names = namesOf(machine);
  const ownerOf = assignments.length > 0 ? ownersOf(machine, assignments) : undefined;
  const findings = findingsByLink(audit);
  return (
    <Section id="links" title="Links and evidence">
      <p class="dim">
        A link counts as cut only with registers that were read back and show it, whatever else says so. Assumed: which
        link it meets is inferred and was not read.
      </p>
      <div class="gpus">
        {machine.gpus.map((gpu, index) => (
          <section key={gpu.address} aria-labelledby={`gpu-${index}`} class="gpu">
            <h3 id={`gpu-${index}`}>
              <Name text={gpu.name} />
            </h3>
            <p>
              {[
                ...(gpu.name === gpu.address ? [] : [<Code text={gpu.address} />]),
                gpu.part === "unknown" ? "unknown part, for which no fence is known" : gpu.part,
                ...(ownerOf === undefined ? [] : [<Owner name={ownerOf(gpu.address)} />]),
              ].map((word, at) => (
                <>
                  {at > 0 && ", "}
                  {word}
                </>
              ))}
            </p>
            <Links gpu={gpu} graph={graph} names={names} findings={findings} />
            <Registers gpu={gpu} />
          </section>
        ))}
      </div>
      {machine.gpus.length === 0 && <p>This machine has no GPU that could have NVLink.</p>}
    </Section>
  );
}

function Owner({ name }: { name: string }) {
  return (
    <>
      owner <Name text={name} />
      {name === HOST && " (in no assignment)"}
    </>
  );
}

interface LinksProps {
  gpu: Gpu;
  graph: LinkGraph;
  names: ReadonlyMap<string, string>;
  findings: ReadonlyMap<string, readonly number[]>;
}

function Links({ gpu, graph, names, findings }: LinksProps) {
  if (gpu.links.length === 0) {
    return <p>{gpu.nvlink === "none" ? "This part has no NVLink." : "Its NVLinks are not known."}</p>;
  }
  return (
    <Table
      class="links"
      caption={
        <>
          {counted(gpu.links.length, "NVLink")} of <Name text={gpu.name} />
        </>
      }
      head={["Link", "Far end", "State", "Told by", "Findings"]}
      rows={gpu.links.map((link) => {
        const end = { gpu, link };
        const open = graph.cutAt(end) === "none" ? (findings.get(`${link.number} ${gpu.name}`) ?? []) : [];
        return [
          link.number,
          <FarEnd end={end} graph={graph} names={names} />,
          <State end={end} graph={graph} />,
          `${ORIGINS[link.origin]}${link.assumed === true ? ", assumed" : ""}`,
          open.length === 0 ? (
            <span class="dim">none</span>
          ) : (
            open.map((number) => <FindingNumber number={number} key={number} />)
          ),
        ];
      })}
    />
  );
}

const ORIGINS: Record<Link["origin"], string> = {
  "device-tree": "device tree",
  firmware: "firmware, as derived",
  sysfs: "sysfs",
  lspci: "lspci",
  "nvidia-smi": "nvidia-smi",
  wiring: "table of this board",
  register: "registers",
  "kernel-rules": "the kernel's rules",
};

function FarEnd({ end, graph, names }: { end: LinkEnd; graph: LinkGraph; names: LinksProps["names"] }) {
  const { gpu, link } = end;
  const contested = graph.isContested(link) && <span class="bad-text"> (descriptions contradict each other)</span>;
  return (
    <>
      {farEnd(gpu, link, names)}
      {contested}
    </>
  );
}

function farEnd(gpu: Gpu, { far }: Link, names: LinksProps["names"]): ComponentChildren {
  switch (far.kind) {
    case "gpu":
      return (
        <>
          <Name text={names.get(far.gpu) ?? far.gpu} />
          {far.link === undefined ? "" : ` link ${far.link}`}
        </>
      );
    case "bridge":
      return (
        <>
          {gpu.bridges.includes(far.bridge) ? "its own NPU bridge " : "NPU bridge "}
          <Code text={far.bridge} />
        </>
      );
    case "switch":
      return (
        <>
          NVSwitch <Name text={far.switch} />
        </>
      );
    case "none":
      return "nothing";
    case "unknown":
      return "not known";
  }
}

/** What the evidence says; without any, what the source says, which proves nothing. */
function State({ end, graph }: { end: LinkEnd; graph: LinkGraph }) {
  const cut = graph.cutAt(end);
  if (cut === "none") {
    const state = linkState(end.gpu, end.link);
    return <span class={`state state-${state}`}>{LINK_STATES[state === "cut" ? "unknown" : state]}</span>;
  }
  const where = cut === "one" ? (isCutHere(end.gpu.part, end.link) ? ", this one" : ", the far one") : "";
  return (
    <span class="state state-cut">
      {LINK_STATES[cut]}
      {where}
    </span>
  );
}

function Registers({ gpu }: { gpu: Gpu }) {
  const registers = registersInWords(gpu);
  if (registers.length === 0) {
    const why = partFacts(gpu.part) === undefined ? "no register of this part is known to prove anything" : "";
    return (
      <p class="dim">
        No register was read as evidence, so nothing is proven of its links{why === "" ? "" : `: ${why}`}.
      </p>
    );
  }
  return (
    <Table
      class="stacked registers"
      caption={
        <>
          Registers of <Name text={gpu.name} />, <ReadAt gpu={gpu} />
        </>
      }
      head={["Register", "Offset", "Value", "What it says"]}
      rows={registers.map(({ offset, value, name, meaning }) => [
        name,
        <Code text={hexadecimal(offset, 6)} />,
        <Code text={hexadecimal(value, 8)} />,
        meaning,
      ])}
    />
  );
}

/** When the registers were read, as far as the evidence says. */
function ReadAt({ gpu }: { gpu: Gpu }) {
  const times = readTimes({ gpus: [gpu] });
  const [first] = times;
  const last = times.at(-1);
  if (first === undefined || last === undefined) return <>read at a time that is not known</>;
  return (
    <>
      read <Moment at={first} />
      {last !== first && (
        <>
          {" "}
          to <Moment at={last} />
        </>
      )}
    </>
  );
}

/** When registers were read, ascending. */
export function readTimes({ gpus }: Pick<Machine, "gpus">): string[] {
  const times = gpus.flatMap(({ links }) => links.flatMap(({ evidence }) => evidence?.readAt ?? []));
  return [...new Set(times)].sort();
}

/** Numbers of the findings about a link, by its number and its GPU's name. */
function findingsByLink({ findings }: ReportSource["audit"]): Map<string, number[]> {
  const numbers = new Map<string, number[]>();
  findings.forEach(({ links }, index) => {
    for (const { gpu, link } of links) {
      const own = numbers.get(`${link} ${gpu}`) ?? [];
      if (own.at(-1) !== index + 1) own.push(index + 1);
      numbers.set(`${link} ${gpu}`, own);
    }
  });
  return numbers;
}

function hexadecimal(value: number, digits: number): string {
  return `0x${(value >>> 0).toString(16).padStart(digits, "0")}`;
}
