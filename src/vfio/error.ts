import { constants } from "node:os";

/** Names of the errno values that VFIO's calls answer with, and a few more that devices use. */
export type VfioErrorCode =
  | "EPERM"
  | "ENOENT"
  | "EIO"
  | "ENXIO"
  | "EAGAIN"
  | "ENOMEM"
  | "EACCES"
  | "EFAULT"
  | "EBUSY"
  | "EEXIST"
  | "ENODEV"
  | "EINVAL"
  | "EMFILE"
  | "ENOTTY"
  | "ENOSPC"
  | "ERANGE"
  | "EMSGSIZE"
  | "EPROTO"
  | "ECANCELED"
  | "ENOTSUP"
  | "ETIMEDOUT"
  | "EOVERFLOW";

/** What a VFIO operation is refused with: an errno, which a client gets to see, and words for whoever reads the log. */
export class VfioError extends Error {
  override readonly name = "VfioError";
  /** Positive errno value. */
  readonly errno: number;

  constructor(
    readonly code: VfioErrorCode,
    message: string,
  ) {
    super(`${message} (${code})`);
    this.errno = constants.errno[code];
  }
}
