import type { HttpSettings } from "../../web/http_address.js";
import type { Site } from "../../web/site.js";
import type { Watched } from "../../web/watched.js";
import { EventLimit } from "./event_limit.js";
import { FencedServing, type ServingSettings } from "./fenced_serving.js";
import type { Reporter } from "./reporter.js";
import type { RejectedChange } from "./server_status.js";
import { untilSignal } from "./until_signal.js";

/**
 * Fences and serves until a signal asks to end, and leaves nothing but the ledger then.
 * @returns the exit code
 * @throws what keeps it from serving, and what the worker ends with when it fails
 */
export async function serveUntilSignal(
  settings: ServingSettings & { http?: HttpSettings },
  reporter: Reporter,
): Promise<number> {
  const signalled = untilSignal();
  let site: Site | undefined;
  const limit = new EventLimit((event) => {
    reporter.onEvent(event);
    site?.tell(event);
  });
  // Listens before anything is touched, so that an address which somebody else has is found in time.
  site = await siteFor(settings, (change) => limit.take(change));
  try {
    return await serve(settings, reporter, { signalled, limit, site });
  } finally {
    site?.close();
  }
}

const BEYOND_LOOPBACK =
  "--http beyond loopback: everybody who reaches it may look, and as HTTP is not encrypted, whoever is on the way can read the token; ssh -L is safer";

/** What goes on around a serving. */
interface Surroundings {
  signalled: Promise<NodeJS.Signals>;
  limit: EventLimit;
  site: Site | undefined;
}

async function serve(
  settings: ServingSettings,
  reporter: Reporter,
  { signalled, limit, site }: Surroundings,
): Promise<number> {
  const serving = await FencedServing.prepare(site === undefined ? settings : { ...settings, url: site.url }, {
    onEvent: (event) => {
      site?.count(event);
      limit.take(event);
    },
    onChange: (status, by) => {
      reporter.onChange(status, by);
      site?.changed(status, by);
    },
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
    site?.open(watchedOf(serving, settings));
    reporter.onReady(started, site);
  }
  const why = await Promise.race([signalled, serving.ended]);
  site?.close();
  await serving.close();
  limit.flush();
  if (why === undefined) throw new Error("the serving worker ended by itself");
  reporter.onStopped(why);
  return 0;
}

async function siteFor(
  { http, data }: ServingSettings & { http?: HttpSettings },
  onRejected: (change: RejectedChange) => void,
): Promise<Site | undefined> {
  if (http === undefined) return undefined;
  const [{ Site }, { isLoopback }] = await Promise.all([
    import("../../web/site.js"),
    import("../../web/http_address.js"),
  ]);
  const site = await Site.listen(http, data.machine, { onRejected });
  if (!isLoopback(http.host)) process.stderr.write(`linkfence: ${BEYOND_LOOPBACK}\n`);
  return site;
}

function watchedOf(serving: FencedServing, { data }: ServingSettings): Watched {
  const { machine, includeHost, isolateNvlink } = data;
  return {
    machine,
    planning: { includeHost, ...(isolateNvlink !== undefined && { isolateNvlink }) },
    status: () => serving.status(),
    seen: () => serving.seen(),
    change: (request, by) => serving.change(request, by),
  };
}
