import { useContext, useMemo } from "preact/hooks";
import { shown } from "../../picture/text.js";
import { counted } from "./counted.js";
import { Lanes } from "./lanes.js";
import { type Occurrence, occurrencesOf } from "./occurrences.js";
import { duration, Moment } from "./page_time.js";
import { LostContext, ScrollRegion } from "./section.js";
import { Name, Tag } from "./tag.js";
import type { View } from "./view.js";

/** What has happened, for each GPU over time, and in words. */
export function TimelineView({ machine, state, history, clockAhead }: View) {
  const lost = useContext(LostContext);
  const gpus = machine.gpus.map(({ name }) => name);
  const { functions } = state.status;
  const occurrences = useMemo(() => occurrencesOf(history, socketNames(functions, machine.gpus)), [history, functions]);
  if (occurrences.length === 0) {
    return <p>Nothing has happened since everything was fenced: no client has come, no GPU was reset.</p>;
  }
  return (
    <>
      <Lanes occurrences={occurrences} gpus={gpus} clockAhead={clockAhead} until={lost?.since} />
      <h3>In words, the latest first</h3>
      <ScrollRegion label="What has happened, the latest first" high>
        <OccurrenceTable occurrences={occurrences} />
      </ScrollRegion>
      <p class="dim">The last {counted(history.length, "event")} of the server; its log has all.</p>
    </>
  );
}

function OccurrenceTable({ occurrences }: { occurrences: readonly Occurrence[] }) {
  return (
    <table>
      <caption class="unseen">What has happened, the latest first</caption>
      <thead>
        <tr>
          <th scope="col">Time</th>
          <th scope="col">Who</th>
          <th scope="col">What</th>
          <th scope="col">Took</th>
        </tr>
      </thead>
      <tbody>
        {occurrences.toReversed().map(({ number, start, end, kind, who, words, tone, count }) => (
          <tr key={number}>
            <td>
              <Moment at={start} />
            </td>
            <td>{who === "" ? "server" : <Name text={who} />}</td>
            <td>
              {tone === "bad" && <Tag tone="bad" words="failed" />} {shown(words)}
              {count > 1 && `, ${count} times`}
            </td>
            <td>{kind !== "reset" ? "" : end === undefined ? "under way" : duration(end - start)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** What is behind a socket, also when nobody serves it any more: its file is named after the function. */
function socketNames(
  functions: View["state"]["status"]["functions"],
  gpus: View["machine"]["gpus"],
): (socket: string) => string {
  const nameAt = new Map<string, string>(functions.map(({ address, name }) => [address, name]));
  for (const { address, name } of gpus) nameAt.set(address, name);
  return (socket) => {
    const file = socket.slice(socket.lastIndexOf("/") + 1).replace(/\.sock$/, "");
    const address = /[\da-f]{4,8}:[\da-f]{2}:[\da-f]{2}\.[0-7]$/.exec(file)?.[0];
    return (address !== undefined && nameAt.get(address)) || file;
  };
}
