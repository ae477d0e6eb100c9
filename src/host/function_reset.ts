import { constants } from "node:fs";
import { join } from "node:path";
import { CallThread, type Fd, NativeMemory, OsError, openFile } from "../os/index.js";
import type { PciAddress } from "../pci/address.js";
import { pause, type Steps, waitUntil } from "../vfio/steps.js";
import { HostError } from "./error.js";
import { FunctionFolder } from "./function_folder.js";
import { PortControl } from "./port_control.js";

/** How long a function may take until its config space answers, in ms; the kernel waits as long (PCIE_RESET_READY_POLL_MS). */
const READY_MS = 60_000;
/**
 * How long the kernel may take in all. It doubles its waits and may wait again for what is restored, and whoever accesses
 * config space before it is done is made to wait, so giving up earlier gains nothing.
 */
const KERNEL_MS = 200_000;
/** How long functions may be busy that are to be reset. */
const BUSY_MS = 5000;
const POLL_MS = 20;
/** How often somebody who watches hears that it still takes. */
const PROGRESS_MS = 2000;

/** A function that a reset of a bus hits. */
export interface HitFunction {
  address: PciAddress;
  driver: string | null;
}

/**
 * What a secondary bus reset from the port above a function hits, the function itself among it; empty when there is no port
 * above.
 */
export function busResetHits(address: PciAddress, root = "/"): HitFunction[] {
  const port = new FunctionFolder(address, root).port;
  if (port === undefined) return [];
  return port.below.map((each) => ({ address: each.address, driver: each.link("driver") ?? null }));
}

/**
 * Refuses a reset that would hit what somebody else works with.
 * @param mayHit functions that may be hit although a driver has them, besides the function itself
 * @throws HostError `ERESET` with the functions and their drivers, or when there is no port that could reset it
 */
export function refuseBusReset(address: PciAddress, mayHit: ReadonlySet<PciAddress>, root = "/"): void {
  const hits = busResetHits(address, root);
  if (hits.length === 0) {
    throw new HostError("ERESET", `${address} has no port above it, so its bus cannot be reset`);
  }
  const others = hits.filter((hit) => hit.address !== address && !mayHit.has(hit.address) && hit.driver !== null);
  if (others.length === 0) return;
  const list = others.slice(0, 8).map((other) => `${other.address} (${other.driver})`);
  throw new HostError(
    "ERESET",
    `not reset: resetting ${address} resets ${list.join(", ")} on its bus as well, which a driver has; unbind ${others.length === 1 ? "it" : "them"} first`,
  );
}

/**
 * Resets everything below the port above a function, and waits until its config space answers. The kernel does it where it
 * can (`reset_subordinate` of the port, or the function's own `reset` by the method `bus`), and then saves and restores config
 * space of all that it hits; else the port's reset bit is set and cleared here, and whoever calls restores config space.
 *
 * Begun, it goes on although the steps are cancelled; the kernel makes whoever accesses config space wait until then.
 * @param mayHit as {@link refuseBusReset}
 * @param onProgress told in one line when it takes long
 * @throws HostError `ERESET` as {@link refuseBusReset}, when a function is busy or does not come back; `EGONE`
 */
export function* busReset(
  address: PciAddress,
  mayHit: ReadonlySet<PciAddress>,
  onProgress: (line: string) => void,
): Steps {
  const folder = new FunctionFolder(address);
  folder.requireExists();
  refuseBusReset(address, mayHit);
  const port = folder.port;
  if (port === undefined) throw new HostError("ERESET", `${address} has no port above it any more`);
  if (port.has("reset_subordinate")) yield* kernelReset(folder, port, onProgress);
  else if (resetMethods(address).includes("bus")) yield* busMethodReset(address, onProgress);
  else yield* bitReset(folder, port);
  yield* untilReady(folder, onProgress);
}

/** The methods by which the kernel would reset the function, the first first; empty when it knows none. */
export function resetMethods(address: PciAddress, root = "/"): string[] {
  return (new FunctionFolder(address, root).read("reset_method") ?? "").split(" ").filter((method) => method !== "");
}

/**
 * Has the kernel reset the function by these methods only, the first that works first; with none it does not reset it at
 * all. A method in the list may fail all the same: the list is what the kernel found when it found the function.
 * @throws HostError `ERESET` for a method that the function does not have
 */
export function setResetMethods(address: PciAddress, methods: readonly string[], root = "/"): void {
  const folder = new FunctionFolder(address, root);
  folder.requireExists();
  folder.write("reset_method", `${methods.join(" ")}\n`, "ERESET");
}

/**
 * Resets one function by the kernel's `reset`, by the first of its {@link resetMethods} that works. The kernel saves and
 * restores its config space. Goes on as {@link busReset} does.
 * @throws HostError `ERESET` when the function has no way of its own to be reset, is busy, or does not come back; `EGONE`
 */
export function* functionReset(address: PciAddress, onProgress: (line: string) => void): Steps {
  const folder = new FunctionFolder(address);
  folder.requireExists();
  if (!folder.has("reset")) {
    throw new HostError("ERESET", `the kernel knows no way to reset ${address} alone (it has no reset_method)`);
  }
  yield* untilWritten(folder, join(folder.path, "reset"), onProgress);
  yield* untilReady(folder, onProgress);
}

/** The function's own reset, by its bus and by nothing gentler; its methods are put back as they were. */
export function* busMethodReset(address: PciAddress, onProgress: (line: string) => void): Steps {
  const methods = resetMethods(address);
  setResetMethods(address, ["bus"]);
  try {
    yield* functionReset(address, onProgress);
  } finally {
    setResetMethods(address, methods);
  }
}

function* kernelReset(folder: FunctionFolder, port: FunctionFolder, onProgress: (line: string) => void): Steps {
  const end = performance.now() + BUSY_MS;
  for (;;) {
    try {
      return yield* untilWritten(folder, join(port.path, "reset_subordinate"), onProgress);
    } catch (error) {
      // Somebody has a function below locked: a driver that is being bound, another reset.
      const busy = error instanceof HostError && error.errno === "EAGAIN" && performance.now() < end;
      if (!busy) throw error;
    }
    yield* pause(POLL_MS);
  }
}

/** Writes `1` to an attribute on a thread of its own: the kernel returns when the function is back, or given up. */
function* untilWritten(folder: FunctionFolder, path: string, onProgress: (line: string) => void): Steps {
  const one = new NativeMemory(1);
  one.bytes[0] = "1".charCodeAt(0);
  let file: Fd;
  try {
    file = openFile(path, constants.O_WRONLY);
  } catch (error) {
    throw asHostError(folder, path, error);
  }
  const thread = new CallThread();
  const call = thread.start("write", file, one, 1);
  try {
    const begun = performance.now();
    while (!(yield* waitUntil(() => call.isDone, PROGRESS_MS, POLL_MS))) {
      const seconds = Math.round((performance.now() - begun) / 1000);
      onProgress(`the kernel has been resetting ${folder.address} for ${seconds} s`);
      if (performance.now() - begun > KERNEL_MS) throw notBack(folder, seconds);
    }
    call.result();
  } catch (error) {
    throw asHostError(folder, path, error);
  } finally {
    // The descriptor of a call that goes on must stay open: it goes with the process.
    if (call.isDone) file.close();
    thread.closeAfterCalls();
  }
}

/** The kernel says ENOTTY also when a function was reset and does not answer any more (drivers/pci/pci.c, pci_dev_wait). */
function asHostError(folder: FunctionFolder, path: string, error: unknown): unknown {
  if (!(error instanceof OsError)) return error;
  if (!folder.exists) return new HostError("EGONE", `${folder.address} has gone while it was reset`, error.code);
  if (error.code === "ENOTTY" && !answers(folder)) return notBack(folder, READY_MS / 1000);
  return folder.failure(path, error.code, "ERESET");
}

/**
 * Resets the one function below a port by the port's reset bit, which loses the function's config space. Of PCIe base
 * specification 6.6.1 are the times: at least 1 ms in reset; then 100 ms, from when the link is up where the port tells.
 * @throws HostError `ERESET` when there are others below the port, or the link stays down
 */
export function* bitReset(folder: FunctionFolder, port: FunctionFolder): Steps {
  const along = port.below.find(({ address }) => address !== folder.address);
  if (along !== undefined) {
    const why = "this kernel has no reset_subordinate, without which the other would lose its config space";
    throw new HostError("ERESET", `not reset: ${along.address} is on the bus of ${folder.address}, and ${why}`);
  }
  const control = new PortControl(port);
  try {
    control.setReset(true);
    try {
      yield* pause(2);
    } finally {
      control.setReset(false);
    }
    if (!(yield* waitUntil(() => control.linkIsUp !== false, 1000, POLL_MS))) {
      throw new HostError("ERESET", `${folder.address} does not come back from its reset: its link stays down`);
    }
    yield* pause(100);
  } finally {
    control.close();
  }
}

function* untilReady(folder: FunctionFolder, onProgress: (line: string) => void): Steps {
  const begun = performance.now();
  const seconds = () => Math.round((performance.now() - begun) / 1000);
  while (!(yield* waitUntil(() => answers(folder), PROGRESS_MS, POLL_MS))) {
    folder.requireExists();
    if (performance.now() - begun > READY_MS) throw notBack(folder, seconds());
    onProgress(`${folder.address} has not answered since its reset, for ${seconds()} s`);
  }
}

function notBack({ address }: FunctionFolder, seconds: number): HostError {
  return new HostError(
    "ERESET",
    `${address} does not come back from its reset: its config space has not answered for ${Math.round(seconds)} s; power the machine off and on`,
  );
}

/** The ids' own files are what the kernel remembers; config space is what the function says. */
function answers(folder: FunctionFolder): boolean {
  return folder.configIds() !== undefined;
}
