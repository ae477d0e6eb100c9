/** A description of a machine that cannot be made into one. */
export class MachineError extends Error {
  constructor(
    message: string,
    /** `EMACHINE`, or a narrower code of the source. */
    readonly code: string = "EMACHINE",
  ) {
    super(message);
    this.name = "MachineError";
  }
}
