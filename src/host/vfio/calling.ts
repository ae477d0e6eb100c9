import { type CallArgument, type CallThread, Fd, type LongCall, OsError, type PendingCall } from "../../os/index.js";
import { type Steps, VfioError, type VfioErrorCode } from "../../vfio/index.js";

/** How soon the end of a call is noticed when nothing else wakes the loop, in milliseconds. */
const INTERVAL = 2;

/** Waits for the end of a call that was started. */
export function* ended(call: PendingCall): Steps {
  while (!call.isDone) yield { deadline: performance.now() + INTERVAL, done: () => call.isDone };
}

/**
 * Makes a call in another thread. Cancelling these steps takes nothing back: a call that was started is made.
 * @returns what the call returns
 * @throws {OsError}
 */
export function* calling(thread: CallThread, name: LongCall, ...args: CallArgument[]): Steps<number> {
  const call = thread.start(name, ...args);
  yield* ended(call);
  return call.result();
}

/** Makes a call that returns a descriptor, which is closed when these steps are cancelled. @throws {OsError} */
export function* opening(thread: CallThread, name: "open" | "ioctl", ...args: CallArgument[]): Steps<Fd> {
  const call = thread.start(name, ...args);
  let over = false;
  try {
    yield* ended(call);
    over = true;
    return new Fd(call.result());
  } finally {
    if (!over) call.abandon();
  }
}

const ERRNOS: Readonly<Record<string, VfioErrorCode>> = {
  EPERM: "EPERM",
  ENOENT: "ENOENT",
  ENXIO: "ENXIO",
  EAGAIN: "EAGAIN",
  ENOMEM: "ENOMEM",
  EACCES: "EACCES",
  EFAULT: "EFAULT",
  EBUSY: "EBUSY",
  EEXIST: "EEXIST",
  ENODEV: "ENODEV",
  EINVAL: "EINVAL",
  EMFILE: "EMFILE",
  ENOTTY: "ENOTTY",
  ENOSPC: "ENOSPC",
  ERANGE: "ERANGE",
  EOVERFLOW: "EOVERFLOW",
  EOPNOTSUPP: "ENOTSUP",
  ETIMEDOUT: "ETIMEDOUT",
  ECANCELED: "ECANCELED",
};

/** What the kernel refused, as a client is to be told: its errno where VFIO knows it, else EIO. */
export function asVfioError(error: unknown, what: string): VfioError {
  if (error instanceof VfioError) return error;
  if (!(error instanceof OsError)) throw error;
  const code = ERRNOS[error.code];
  return new VfioError(code ?? "EIO", code === undefined ? `${what}: ${error.code}` : what);
}
