import type { PageEvent, Snapshot } from "../../src/web/snapshot.js";

/** When everything was started in pictures of the page. */
export const FROZEN_START = Date.parse("2026-01-31T12:00:00.000Z");
/** When they are taken. */
export const FROZEN_NOW = FROZEN_START + 120_000;
/** From one event to the next, in milliseconds. */
const STEP = 25;
/** Of an event that is not a step of the one before. */
const PAUSE = 15_000;

/** What a server tells a page that comes now. */
export async function snapshotAt(url: string): Promise<Snapshot> {
  const response = await fetch(new URL("/api/events", url));
  let text = "";
  for await (const chunk of response.body ?? []) {
    text += new TextDecoder().decode(chunk);
    const snapshot = /^event: snapshot\ndata: (.*)\n\n/m.exec(text)?.[1];
    if (snapshot !== undefined) return JSON.parse(snapshot) as Snapshot;
  }
  throw new Error(`no snapshot in ${text}`);
}

/** The same, but for what is different each time: moments, processes, its address and folders. */
export function frozen({ machine, planning, state, history }: Snapshot): Snapshot {
  const text = JSON.stringify({ planning, state })
    .replaceAll(/"http:[^"]*"/g, '"http://127.0.0.1:8080/"')
    .replaceAll(state.status.socketDir, "/run/linkfence")
    .replaceAll(state.status.stateDir, "/var/lib/linkfence")
    .replaceAll(/"\d{4}-\d\d-\d\dT[\d:.]+Z"/g, JSON.stringify(new Date(FROZEN_START).toISOString()))
    .replaceAll(/"(pid|uid|gid)":\d+/g, '"$1":4711');
  return { ...JSON.parse(text), machine, history: frozenHistory(history, state.status.socketDir) };
}

function frozenHistory(history: readonly PageEvent[], socketDir: string): PageEvent[] {
  let time = FROZEN_START;
  return history.map((event) => {
    time += event.event === "fence" && event.step !== "sbr" ? STEP : PAUSE;
    const text = JSON.stringify({ ...event, time: new Date(time).toISOString() })
      .replaceAll(socketDir, "/run/linkfence")
      .replaceAll(/"(pid|uid|gid)":\d+/g, '"$1":4711');
    return JSON.parse(text) as PageEvent;
  });
}
