import { LINK_DISABLE } from "../../src/machine/part.js";
import {
  VFIO_PCI_BAR0_REGION_INDEX,
  VFIO_PCI_BAR1_REGION_INDEX,
  VFIO_PCI_CONFIG_REGION_INDEX,
} from "../../src/vfio/index.js";
import { VfioUserClient } from "../../src/vfio-user/index.js";
import { PEER_BASE, PEER_LINK, PEER_STATUS, PEER_WINDOW_START } from "../../src/virtual/peer_window.js";

const COMMAND = 0x04;
const COMMAND_MEMORY_AND_MASTER = 6;

/** A guest that has one GPU, and uses it as its firmware and its driver would. */
export class Guest {
  readonly client: VfioUserClient;

  constructor(socket: string) {
    this.client = new VfioUserClient(socket);
    this.powerOn();
  }

  /** Gives BAR0 an address and has it decoded, as after each reset. */
  powerOn(): void {
    this.client.write(VFIO_PCI_CONFIG_REGION_INDEX, 0x10, bytesOf(0x5a000000));
    this.client.write(VFIO_PCI_CONFIG_REGION_INDEX, COMMAND, Uint8Array.of(COMMAND_MEMORY_AND_MASTER, 0));
  }

  reset(): void {
    this.client.reset();
    this.powerOn();
  }

  register(offset: number): number {
    return numberOf(this.client.read(VFIO_PCI_BAR0_REGION_INDEX, offset, 4));
  }

  setRegister(offset: number, value: number): void {
    this.client.write(VFIO_PCI_BAR0_REGION_INDEX, offset, bytesOf(value));
  }

  get disableMask(): number {
    return this.register(LINK_DISABLE);
  }

  memory(offset: number): number {
    return numberOf(this.client.read(VFIO_PCI_BAR1_REGION_INDEX, offset, 4));
  }

  setMemory(offset: number, value: number): void {
    this.client.write(VFIO_PCI_BAR1_REGION_INDEX, offset, bytesOf(value));
  }

  linkIsUp(link: number): boolean {
    this.setRegister(PEER_LINK, link);
    return this.register(PEER_STATUS) === 1;
  }

  /** Writes a value into the memory at the far end of a link, 1 MiB into it. */
  sendOver(link: number, value: number): void {
    this.setRegister(PEER_LINK, link);
    this.setRegister(PEER_BASE, 0x10);
    this.setRegister(PEER_WINDOW_START + 0x40, value);
  }

  close(): void {
    this.client.close();
  }
}

/** Where in the far memory {@link Guest.sendOver} writes. */
export const SENT_AT = 0x10_0040;

export function bytesOf(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

export function numberOf(data: Uint8Array): number {
  return new DataView(data.buffer, data.byteOffset).getUint32(0, true);
}
