import { useMemo, useState } from "preact/hooks";
import { isolation, type JoinedPair } from "../../isolation/isolation.js";
import { shown } from "../../picture/text.js";
import { counted } from "./counted.js";
import { ScrollRegion } from "./section.js";
import { Name } from "./tag.js";
import type { View } from "./view.js";

/** So many pairs are shown without being asked for. */
const FIRST = 100;
/** More than these nobody reads, and the page would become slow. */
const MOST = 5000;

/** With more GPUs than these that are sets by themselves they are gathered. */
const MOST_SINGLE = 8;

/** What is not separated now, what could be, and for each pair that is joined why and what separates it. */
export function IsolationView({ machine, planning }: Pick<View, "machine" | "planning">) {
  const state = useMemo(() => isolation(machine, planning), [machine, planning]);
  const nameOf = useMemo(
    () => new Map<string, string>(machine.gpus.map(({ address, name }) => [address, name])),
    [machine],
  );
  if (machine.gpus.length === 0) return <p>This machine has no GPUs whose isolation could be shown.</p>;
  const notOfGpus = (sets: readonly (readonly string[])[]) => sets.filter((set) => !set.some((one) => nameOf.has(one)));
  const alone = new Set(notOfGpus(state.now).flat());
  const pairs = state.pairs.filter(({ a, b }) => !alone.has(a) && !alone.has(b));
  const separable = pairs.filter(({ action }) => action !== null);
  const fixed = pairs.filter(({ action }) => action === null);
  return (
    <>
      <div class="columns">
        <Sets
          title="IOMMU groups of the kernel"
          sets={state.kernel}
          nameOf={nameOf}
          none="The kernel's groups are not known."
        />
        <Sets title="Not separated now" sets={state.now} nameOf={nameOf} />
        <Sets title="Not separable by any known action" sets={state.possible} nameOf={nameOf} />
      </div>
      <h3>Joined directly</h3>
      {separable.length === 0 ? (
        <p>No GPU is joined with anything that a known action would separate.</p>
      ) : (
        <Pairs pairs={separable} nameOf={nameOf} what="Pairs that an action separates" />
      )}
      {fixed.length > 0 && (
        <details>
          <summary>{counted(fixed.length, "pair")} that no known action separates</summary>
          <Pairs pairs={fixed} nameOf={nameOf} what="Pairs that no known action separates" />
        </details>
      )}
    </>
  );
}

interface SetsProps {
  title: string;
  sets: readonly (readonly string[])[];
  /** Names of GPUs, by address. */
  nameOf: ReadonlyMap<string, string>;
  /** What is said when there are none. */
  none?: string;
}

/** Sets that have a GPU: its GPUs by name, and how many others; many that are one GPU each are one line. */
function Sets({ title, sets, nameOf, none = "" }: SetsProps) {
  const own = sets.filter((set) => set.some((one) => nameOf.has(one)));
  const single = own.filter((set) => set.length === 1);
  const gathered = single.length > MOST_SINGLE ? single.flat() : [];
  const listed = gathered.length > 0 ? own.filter((set) => set.length > 1) : own;
  return (
    <div class="card">
      <h3>{title}</h3>
      {own.length === 0 && <p class="dim">{none}</p>}
      <ol class="sets">
        {listed.map((set, index) => {
          const others = set.filter((one) => !nameOf.has(one));
          return (
            <li key={index}>
              <Chips gpus={set} nameOf={nameOf} />
              {others.length > 0 && (
                <details class="inline">
                  <summary>and {counted(others.length, "other function")}</summary>
                  <span class="mono">{shown(others.join(" "))}</span>
                </details>
              )}
            </li>
          );
        })}
      </ol>
      {gathered.length > 0 && (
        <p>
          {gathered.length} each by itself: <Chips gpus={gathered} nameOf={nameOf} />
        </p>
      )}
    </div>
  );
}

function Chips({ gpus, nameOf }: { gpus: readonly string[]; nameOf: SetsProps["nameOf"] }) {
  return (
    <>
      {gpus
        .flatMap((address) => nameOf.get(address) ?? [])
        .map((name) => (
          <span class="chip" key={name}>
            <Name text={name} />
          </span>
        ))}
    </>
  );
}

interface PairsProps {
  pairs: readonly JoinedPair[];
  nameOf: ReadonlyMap<string, string>;
  what: string;
}

function Pairs({ pairs, nameOf, what }: PairsProps) {
  const [all, setAll] = useState(false);
  const rows = pairs.slice(0, all ? MOST : FIRST);
  const end = (address: string) => <Name text={nameOf.get(address) ?? address} />;
  return (
    <>
      <ScrollRegion label={what} high={pairs.length > 12}>
        <table>
          <caption class="unseen">{what}, and why they are joined</caption>
          <thead>
            <tr>
              <th scope="col">Pair</th>
              <th scope="col">By</th>
              <th scope="col">Why</th>
              <th scope="col">What separates them</th>
            </tr>
          </thead>
          <tbody>
            {rows.map(({ a, b, via, reason, action }, index) => (
              <tr key={index}>
                <th scope="row">
                  {end(a)} and {end(b)}
                </th>
                <td>{VIA[via]}</td>
                <td>{shown(reason)}</td>
                <td>{action === null ? "nothing that is known" : shown(action)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </ScrollRegion>
      {rows.length < pairs.length && !all && (
        <button type="button" onClick={() => setAll(true)}>
          Show all {pairs.length}
        </button>
      )}
      {all && pairs.length > MOST && <p class="note">{pairs.length - MOST} more: linkfence groups has all of them.</p>}
    </>
  );
}

const VIA: Record<JoinedPair["via"], string> = { pcie: "PCIe", nvlink: "NVLink", nvswitch: "NVSwitch" };
