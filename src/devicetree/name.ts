import { MAX_NAME_BYTES } from "./limits.js";

/**
 * Whether a byte may stand in a node or property name: visible ASCII without `/`. The specification allows fewer; firmware
 * is not always so tidy, but a control character would reach somebody's terminal and a slash would forge a path.
 */
export function isNameByte(byte: number): boolean {
  return byte > 0x20 && byte < 0x7f && byte !== 0x2f;
}

/** Whether the text can be the name of a property or of a node other than the root: 1 to 255 bytes, each a name byte. */
export function isName(text: string): boolean {
  if (text.length === 0 || text.length > MAX_NAME_BYTES) return false;
  for (let index = 0; index < text.length; index++) if (!isNameByte(text.charCodeAt(index))) return false;
  return true;
}
