/** What a function is, as its config space header says. */
export interface ConfigIdentity {
  vendorId: number;
  deviceId: number;
  /** Base class, subclass and programming interface, 24 bits. */
  classCode: number;
  revision?: number;
  subsystemVendorId?: number;
  subsystemId?: number;
  /** 1 for INTA#; 0 or absent for a function without INTx. */
  interruptPin?: number;
}

/** Offsets in a type 0 header (PCI local bus specification 6.1). */
const COMMAND = 0x04;
const STATUS = 0x06;
const BAR0 = 0x10;
const CAPABILITIES_POINTER = 0x34;
const FIRST_CAPABILITY = 0x40;
const STATUS_INTERRUPT = 1 << 3;
const STATUS_CAPABILITIES = 1 << 4;
const COMMAND_INTERRUPT_DISABLE = 1 << 10;
/** I/O, memory, bus master, parity, SERR#, interrupt disable. */
const COMMAND_WRITABLE = 0x0547;

/** The config space of a virtual function: what can be read, and which bits writes change. */
export class ConfigSpace {
  readonly bytes: Uint8Array;
  /** Bits that are writable. */
  readonly mask: Uint8Array;
  readonly #view: DataView;
  readonly #maskView: DataView;
  #last = CAPABILITIES_POINTER;
  #free = FIRST_CAPABILITY;
  #initial: Uint8Array | undefined;

  /** @param size 256, or 4096 with extended config space */
  constructor(identity: ConfigIdentity, size: 256 | 4096 = 256) {
    this.bytes = new Uint8Array(size);
    this.mask = new Uint8Array(size);
    this.#view = new DataView(this.bytes.buffer);
    this.#maskView = new DataView(this.mask.buffer);
    this.#view.setUint16(0x00, identity.vendorId, true);
    this.#view.setUint16(0x02, identity.deviceId, true);
    this.#view.setUint32(0x08, (identity.classCode << 8) | (identity.revision ?? 0), true);
    this.#view.setUint16(0x2c, identity.subsystemVendorId ?? identity.vendorId, true);
    this.#view.setUint16(0x2e, identity.subsystemId ?? identity.deviceId, true);
    this.#view.setUint8(0x3d, identity.interruptPin ?? 0);
    this.#maskView.setUint16(COMMAND, COMMAND_WRITABLE, true);
    this.#maskView.setUint8(0x0c, 0xff); // cache line size
    this.#maskView.setUint8(0x3c, 0xff); // interrupt line
  }

  /**
   * Adds a memory BAR.
   * @param size bytes, a power of two of at least 16
   */
  addBar(index: number, size: number, { wide = false, prefetchable = false } = {}): void {
    const at = BAR0 + 4 * index;
    this.#view.setUint32(at, (wide ? 4 : 0) | (prefetchable ? 8 : 0), true);
    const mask = ~(BigInt(size) - 1n);
    this.#maskView.setUint32(at, Number(mask & 0xfffffff0n), true);
    if (wide) this.#maskView.setUint32(at + 4, Number((mask >> 32n) & 0xffffffffn), true);
  }

  /**
   * Appends a capability to the list.
   * @param body what follows id and next pointer
   * @param writable bits of `body` that writes change; none unless given
   * @returns its offset
   */
  addCapability(id: number, body: Uint8Array, writable?: Uint8Array): number {
    const at = this.#free;
    this.#free = (at + 2 + body.length + 3) & ~3;
    this.bytes[this.#last === CAPABILITIES_POINTER ? this.#last : this.#last + 1] = at;
    this.#last = at;
    this.bytes[at] = id;
    this.bytes.set(body, at + 2);
    if (writable !== undefined) this.mask.set(writable, at + 2);
    this.#view.setUint16(STATUS, this.#view.getUint16(STATUS, true) | STATUS_CAPABILITIES, true);
    return at;
  }

  /**
   * Adds an MSI-X capability (PCI Express base specification 7.7.2).
   * @param vectors 1 to 2048
   * @param table the table's place, `pending` that of the pending bits: BAR and a multiple of 8
   */
  addMsix(vectors: number, table: { bar: number; offset: number }, pending: { bar: number; offset: number }): number {
    const body = new Uint8Array(10);
    const view = new DataView(body.buffer);
    view.setUint16(0, vectors - 1, true);
    view.setUint32(2, table.offset | table.bar, true);
    view.setUint32(6, pending.offset | pending.bar, true);
    return this.addCapability(0x11, body, Uint8Array.of(0, 0xc0)); // enable and function mask
  }

  /** Adds power management with No_Soft_Reset, so that nobody takes D3hot for a reset. */
  addPowerManagement(): number {
    return this.addCapability(0x01, Uint8Array.of(3, 0, 8, 0, 0, 0), Uint8Array.of(0, 0, 3, 0));
  }

  /**
   * Adds a PCI Express capability, version 2, of an endpoint on a 2.5 GT/s x1 link (PCI Express base specification
   * 7.5.3), as any function below a root port has: without one it would be a conventional PCI device there.
   */
  addExpress(): number {
    const body = new Uint8Array(0x3a);
    const writable = new Uint8Array(body.length);
    const view = new DataView(body.buffer);
    view.setUint16(0x00, 2, true); // version 2, endpoint
    view.setUint32(0x02, 1 << 15, true); // role based error reporting
    view.setUint32(0x0a, 0x11, true); // link capabilities
    view.setUint16(0x10, 0x11, true); // link status
    view.setUint32(0x2a, 1 << 1, true); // supported link speeds
    new DataView(writable.buffer).setUint16(0x06, 0x7fff, true); // device control
    return this.addCapability(0x10, body, writable);
  }

  /** Shows or hides that INTx is asserted. */
  setInterruptStatus(asserted: boolean): void {
    const status = this.#view.getUint16(STATUS, true) & ~STATUS_INTERRUPT;
    this.#view.setUint16(STATUS, asserted ? status | STATUS_INTERRUPT : status, true);
  }

  /** Whether software has switched INTx off. */
  get interruptDisabled(): boolean {
    return (this.#view.getUint16(COMMAND, true) & COMMAND_INTERRUPT_DISABLE) !== 0;
  }

  read(offset: number, data: Uint8Array): void {
    // By bytes, with no view of them made: registers are read often.
    for (let at = 0; at < data.length; at++) data[at] = this.bytes[offset + at] ?? 0;
  }

  write(offset: number, data: Uint8Array): void {
    this.#initial ??= this.bytes.slice();
    for (let index = 0; index < data.length; index++) {
      const at = offset + index;
      const mask = this.mask[at] ?? 0;
      this.bytes[at] = ((this.bytes[at] ?? 0) & ~mask) | ((data[index] ?? 0) & mask);
    }
  }

  /** Back to what it was before the first write. */
  reset(): void {
    if (this.#initial !== undefined) this.bytes.set(this.#initial);
  }
}
