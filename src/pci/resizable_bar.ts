import { read32 } from "./config_space.js";

/** One BAR whose size can be chosen. Sizes in bytes, 1 MiB to 8 EiB. */
export interface ResizableBar {
  index: number;
  /** Null for size codes that nobody has defined. */
  size: bigint | null;
  supported: bigint[];
}

/** Contents of the Resizable BAR capability, or of the same for the BARs of virtual functions. */
export interface ResizableBarContents {
  kind: "resizable-bar";
  virtual: boolean;
  bars: ResizableBar[];
}

const MIB_SHIFT = 20n;
/** Size codes 0..43 stand for 1 MiB to 8 EiB. */
const SIZES = 44;

/**
 * A count of 0 or 7 BARs, which no function can have, is taken as one.
 * @throws ConfigSpaceError when the capability runs past the end
 */
export function decodeResizableBar(config: Uint8Array, offset: number, virtual: boolean): ResizableBarContents {
  const said = (read32(config, offset + 8) >>> 5) & 0x7;
  const count = said >= 1 && said <= 6 ? said : 1;
  const bars = Array.from({ length: count }, (_, i) => decodeBar(config, offset + 4 + 8 * i));
  return { kind: "resizable-bar", virtual, bars };
}

function decodeBar(config: Uint8Array, offset: number): ResizableBar {
  const control = read32(config, offset + 4);
  // 28 bits for 1 MiB to 128 TiB, and 16 more in the control register for 256 TiB to 8 EiB.
  const sizes = (BigInt(control >>> 16) << 28n) | BigInt(read32(config, offset) >>> 4);
  const supported: bigint[] = [];
  for (let code = 0n; code < SIZES; code++) if ((sizes >> code) & 1n) supported.push(1n << (code + MIB_SHIFT));
  const code = (control >>> 8) & 0x3f;
  return { index: control & 0x7, size: code < SIZES ? 1n << (BigInt(code) + MIB_SHIFT) : null, supported };
}
