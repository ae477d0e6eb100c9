/**
 * What went wrong while fencing: a part without a strategy or another chip than planned, a register or config space that
 * does not answer, a read-back that is not what was written, memory decoding that cannot be had or put back, config space
 * that a reset lost for good, a far end that is not cut, a plan that must not be carried out, a rule of the fence itself
 * that does not hold.
 */
export type FenceErrorCode =
  | "EFENCE_PART"
  | "EFENCE_UNREADABLE"
  | "EFENCE_READBACK"
  | "EFENCE_DECODE"
  | "EFENCE_RESTORE"
  | "EFENCE_FAR_END"
  | "EFENCE_PLAN"
  | "EFENCE_INVARIANT";

/** Why a fence does not hold, or was not attempted. */
export class FenceError extends Error {
  constructor(
    readonly code: FenceErrorCode,
    message: string,
  ) {
    super(message);
    this.name = "FenceError";
  }

  /** The errno that a VFIO client gets for it: what is refused is EINVAL or ENODEV, what fails on the device is EIO. */
  get errno(): "EIO" | "EINVAL" | "ENODEV" {
    if (this.code === "EFENCE_PART") return "ENODEV";
    return this.code === "EFENCE_PLAN" ? "EINVAL" : "EIO";
  }
}

/** The message of whatever was thrown. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** A register offset or value as documents write it: `0x00a00148`. */
export function hex32(value: number): string {
  return `0x${(value >>> 0).toString(16).padStart(8, "0")}`;
}
