import { read32 } from "./config_space.js";

/** Contents of the Secondary PCI Express capability: what links of 8 GT/s and more need. */
export interface SecondaryExpressContents {
  kind: "secondary-express";
  performEqualization: boolean;
  equalizationInterrupt: boolean;
  /** Lanes that saw an error, 0..31. */
  laneErrors: number[];
}

/** @throws ConfigSpaceError when the capability runs past the end */
export function decodeSecondaryExpress(config: Uint8Array, offset: number): SecondaryExpressContents {
  const control = read32(config, offset + 4);
  const errors = read32(config, offset + 8);
  const laneErrors: number[] = [];
  for (let lane = 0; lane < 32; lane++) if ((errors >>> lane) & 1) laneErrors.push(lane);
  return {
    kind: "secondary-express",
    performEqualization: (control & 0x1) !== 0,
    equalizationInterrupt: (control & 0x2) !== 0,
    laneErrors,
  };
}
