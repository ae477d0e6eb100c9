/**
 * What is wrong with a device tree, one code per kind of damage.
 *
 * | code | meaning |
 * |---|---|
 * | `EFDT_MAGIC` | the first four bytes are not `0xd00dfeed` |
 * | `EFDT_TRUNCATED` | the data end before the header, before `totalsize`, or before the structure block's end token |
 * | `EFDT_VERSION` | older than version 16, or not readable by a version 17 reader |
 * | `EFDT_BOUNDS` | an offset or a length leads outside its block or the tree, or a block is misaligned |
 * | `EFDT_OVERLAP` | two blocks, or a block and the header, share bytes |
 * | `EFDT_UNTERMINATED` | a name without its NUL, or a reservation list without its end entry |
 * | `EFDT_UNBALANCED` | nodes opened and not closed, closed and not opened, no root, two roots, a property outside a node |
 * | `EFDT_ORDER` | a property after a child node |
 * | `EFDT_TOKEN` | a word in the structure block that is no token |
 * | `EFDT_NAME` | a name that is empty, too long, or has characters no name may have |
 * | `EFDT_DUPLICATE` | two properties of a node, or two children, with one name |
 * | `EFDT_DEPTH` | nodes nested too deep |
 * | `EFDT_PHANDLE` | a phandle that is 0 or 0xffffffff, not 4 bytes long, or not what `linux,phandle` beside it says |
 * | `EFDT_DUPLICATE_PHANDLE` | two nodes with one phandle |
 * | `EFDT_LIMIT` | more bytes or nodes than any device tree has |
 * | `EFDT_VALUE` | a property or a field that has not the length or the form its reader or writer needs |
 * | `EFDT_DIRECTORY` | a directory that holds no device tree, or cannot be read |
 */
export type DeviceTreeErrorCode =
  | "EFDT_MAGIC"
  | "EFDT_TRUNCATED"
  | "EFDT_VERSION"
  | "EFDT_BOUNDS"
  | "EFDT_OVERLAP"
  | "EFDT_UNTERMINATED"
  | "EFDT_UNBALANCED"
  | "EFDT_ORDER"
  | "EFDT_TOKEN"
  | "EFDT_NAME"
  | "EFDT_DUPLICATE"
  | "EFDT_DEPTH"
  | "EFDT_PHANDLE"
  | "EFDT_DUPLICATE_PHANDLE"
  | "EFDT_LIMIT"
  | "EFDT_VALUE"
  | "EFDT_DIRECTORY";

/** A device tree that is damaged, or that cannot be written. */
export class DeviceTreeError extends Error {
  /** Where in the flattened tree, in bytes from its start; only errors of the reader have one. */
  declare readonly offset?: number;

  constructor(
    readonly code: DeviceTreeErrorCode,
    problem: string,
    offset?: number,
  ) {
    super(
      offset === undefined ? `device tree: ${problem}` : `device tree: ${problem} (at byte 0x${offset.toString(16)})`,
    );
    this.name = "DeviceTreeError";
    if (offset !== undefined) this.offset = offset;
  }
}
