/** Errno values of Linux, the same on every architecture (asm-generic/errno.h): those that VFIO's calls answer with. */
const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EIO: 5,
  ENXIO: 6,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  EMFILE: 24,
  ENOTTY: 25,
  ENOSPC: 28,
  ERANGE: 34,
  EPROTO: 71,
  EOVERFLOW: 75,
  EMSGSIZE: 90,
  ENOTSUP: 95,
  ETIMEDOUT: 110,
  ECANCELED: 125,
} as const;

export type VfioErrorCode = keyof typeof ERRNO;

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
    this.errno = ERRNO[code];
  }
}
