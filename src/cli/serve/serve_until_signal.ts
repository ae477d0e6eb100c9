import { EventLimit } from "./event_limit.js";
import { FencedServing, type ServingSettings } from "./fenced_serving.js";
import type { Reporter } from "./reporter.js";
import { untilSignal } from "./until_signal.js";

/**
 * Fences and serves until a signal asks to end, and leaves nothing but the ledger then.
 * @returns the exit code
 * @throws what keeps it from serving, and what the worker ends with when it fails
 */
export async function serveUntilSignal(settings: ServingSettings, reporter: Reporter): Promise<number> {
  const signalled = untilSignal();
  const limit = new EventLimit((event) => reporter.onEvent(event));
  const serving = await FencedServing.prepare(settings, {
    onEvent: (event) => limit.take(event),
    onChange: (status) => reporter.onChange(status),
  });
  // However the process ends, short of SIGKILL.
  process.on("exit", () => serving.release());
  reporter.onBegin(settings.data.machine);
  const starting = serving.start();
  const started = await Promise.race([starting, signalled]);
  if (typeof started === "string") {
    // A virtual machine goes with its worker; functions of this host have to be given back, which needs them taken first.
    if (settings.data.machine.virtual) process.exit(0);
    await starting.catch(() => {});
  } else {
    reporter.onReady(started);
  }
  const why = await Promise.race([signalled, serving.ended]);
  await serving.close();
  limit.flush();
  if (why === undefined) throw new Error("the serving worker ended by itself");
  reporter.onStopped(why);
  return 0;
}
