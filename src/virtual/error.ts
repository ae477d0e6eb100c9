/** A question about a device that the virtual machine does not have. */
export class VirtualError extends Error {
  readonly code = "EVIRTUAL_ADDRESS";
  constructor(message: string) {
    super(message);
    this.name = "VirtualError";
  }
}
