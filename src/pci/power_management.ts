import { read16 } from "./config_space.js";

/** A power state a function can signal wake-up from. */
export type WakeState = "D0" | "D1" | "D2" | "D3hot" | "D3cold";

const WAKE_STATES: readonly WakeState[] = ["D0", "D1", "D2", "D3hot", "D3cold"];

/** Contents of the Power Management capability. */
export interface PowerManagementContents {
  kind: "power-management";
  /** 1..3 for PCI Power Management 1.0, 1.1 and 1.2. */
  version: number;
  d1: boolean;
  d2: boolean;
  wakeFrom: WakeState[];
  wakeEnabled: boolean;
  /** 0..3 for D0 to D3hot. */
  state: number;
  /** Going from D3hot to D0 keeps the function's state: it is no reset. */
  noSoftReset: boolean;
}

/** @throws ConfigSpaceError when the capability runs past the end */
export function decodePowerManagement(config: Uint8Array, offset: number): PowerManagementContents {
  const capabilities = read16(config, offset + 2);
  const status = read16(config, offset + 4);
  return {
    kind: "power-management",
    version: capabilities & 0x7,
    d1: (capabilities & 0x200) !== 0,
    d2: (capabilities & 0x400) !== 0,
    wakeFrom: WAKE_STATES.filter((_, bit) => capabilities & (0x800 << bit)),
    wakeEnabled: (status & 0x100) !== 0,
    state: status & 0x3,
    noSoftReset: (status & 0x8) !== 0,
  };
}
