/** Which kind of thing went wrong while reading the host. */
export type HostErrorCode =
  /** The directory is no root of a Linux host. */
  | "EHOST"
  /** A file could not be read; `errno` says why. */
  | "EREAD"
  /** A file is larger than what is asked for can be. */
  | "ETOOLARGE"
  /** There is no such function (any more). */
  | "EGONE"
  /** A function cannot be taken from its driver, or given to one. */
  | "EBIND"
  /** A function was not reset, or has not come back from it. */
  | "ERESET"
  /** The registers of a function cannot be reached, or do not answer. */
  | "EREGISTERS"
  /** VFIO cannot be had for a function here: no IOMMU, no driver, no permission, a group that is not viable. */
  | "EVFIO";

/** Something about this host, or a file the user named, that stops the work. The message is one line. */
export class HostError extends Error {
  constructor(
    readonly code: HostErrorCode,
    message: string,
    /** The operating system's own word for it, where it gave one: `ENOENT`. */
    readonly errno?: string,
  ) {
    super(message);
    this.name = "HostError";
  }
}

/** The operating system's word for what a file operation threw, `EUNKNOWN` when there is none. */
export function errnoOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "EUNKNOWN";
}

/** What an errno means, in the words of a sentence. */
export function errnoInWords(errno: string): string {
  return ERRNO_WORDS[errno] ?? errno;
}

const ERRNO_WORDS: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EPERM: "not permitted",
  ENOENT: "no such file or directory",
  ENOTDIR: "not a directory",
  EISDIR: "is a directory",
  ELOOP: "links in a loop",
  ENAMETOOLONG: "name too long",
  ENXIO: "nothing at the other end",
  EADDRINUSE: "somebody else listens there",
  EADDRNOTAVAIL: "this host has no such address",
  EAFNOSUPPORT: "this host has no addresses of that kind",
  ENOTFOUND: "no host is called so",
  EAI_AGAIN: "nobody answers which host is called so",
  EIO: "input/output error",
  EMFILE: "too many open files",
  ENOSPC: "no space left on the device",
  EDQUOT: "disk quota exceeded",
  EROFS: "read-only file system",
  EBUSY: "in use",
  EINVAL: "refused",
  ENODEV: "no such device",
  ENOTTY: "not possible for this function",
  ERR_INVALID_ARG_VALUE: "not a path",
};
