import { effectiveGroups, isolation, type JoinedPair } from "../../isolation/isolation.js";
import type { ReportSource } from "./report_source.js";
import { Table } from "./table.js";
import { Code, counted, Name, namesOf, Section } from "./words.js";

const VIA: Record<JoinedPair["via"], string> = { pcie: "PCIe", nvlink: "NVLink", nvswitch: "NVSwitch" };

/** What is not separated now and what could be, and for each pair that is joined why, and what separates it. */
export function IsolationSection({ machine, isolation: options }: Pick<ReportSource, "machine" | "isolation">) {
  const state = isolation(machine, options);
  const names = namesOf(machine);
  const alone = new Set(state.now.filter((set) => !set.some((one) => names.has(one))).flat());
  const pairs = state.pairs.filter(({ a, b }) => !alone.has(a) && !alone.has(b));
  const hidden = state.pairs.length - pairs.length;
  return (
    <Section id="isolation" title="Isolation now and possible">
      <div class="sets">
        <Sets
          title={`IOMMU groups ${state.kernel.length > 0 ? "of the kernel" : "by the kernel's rules"}`}
          sets={effectiveGroups(state)}
          names={names}
        />
        <Sets title="Not separated now" sets={state.now} names={names} />
        <Sets title="Not separable by any known action" sets={state.possible} names={names} />
      </div>
      <Pairs pairs={pairs} names={names} />
      {hidden > 0 && <p class="dim">{counted(hidden, "more pair")} of functions that nothing joins with a GPU.</p>}
    </Section>
  );
}

interface SetsProps {
  title: string;
  sets: readonly (readonly string[])[];
  names: ReadonlyMap<string, string>;
}

/** Sets that have a GPU: its GPUs by name, and how many others. */
function Sets({ title, sets, names }: SetsProps) {
  const own = sets.filter((set) => set.some((one) => names.has(one)));
  return (
    <div class="set">
      <h3>{title}</h3>
      <ul>
        {own.map((set, index) => {
          const gpus = set.flatMap((one) => names.get(one) ?? []);
          const others = set.length - gpus.length;
          return (
            <li key={index}>
              {gpus.map((gpu) => (
                <>
                  <Name text={gpu} />{" "}
                </>
              ))}
              {others > 0 && <span class="dim">and {counted(others, "other")}</span>}
            </li>
          );
        })}
      </ul>
    </div>
  );
}

/** What one function is joined with for the same reason. */
interface Joined extends Omit<JoinedPair, "b"> {
  others: string[];
}

function Pairs({ pairs, names }: { pairs: readonly JoinedPair[]; names: ReadonlyMap<string, string> }) {
  if (pairs.length === 0) return <p>Nothing is joined directly with a GPU.</p>;
  const end = (address: string) => {
    const name = names.get(address);
    return name === undefined || name === address ? <Code text={address} /> : <Name text={name} />;
  };
  return (
    <Table
      class="stacked"
      caption="What is joined directly now, and what would separate it"
      head={["Function", "Joined with", "By", "Why", "Separated by"]}
      rows={gathered(pairs).map(({ a, others, via, reason, action }) => [
        end(a),
        others.map((b) => <>{end(b)} </>),
        VIA[via],
        reason,
        action ?? <span class="dim">nothing that is known</span>,
      ])}
    />
  );
}

/** Links first, for they are what this is about; pairs that differ in one function only are one line. */
function gathered(pairs: readonly JoinedPair[]): Joined[] {
  const order = [...pairs.filter(({ via }) => via !== "pcie"), ...pairs.filter(({ via }) => via === "pcie")];
  const joined: Joined[] = [];
  for (const { a, b, via, reason, action } of order) {
    const last = joined.at(-1);
    if (last?.a === a && last.via === via && last.reason === reason && last.action === action) last.others.push(b);
    else joined.push({ a, others: [b], via, reason, action });
  }
  return joined;
}
