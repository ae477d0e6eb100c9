import { CONVENTIONAL_SIZE, EXTENDED_SIZE, HEADER_SIZE } from "../config_space.js";
import { CARDBUS_BRIDGE } from "../header.js";

const DUMP_LINE = /^([0-9a-f]{2,3}): ([0-9a-f]{2}(?: [0-9a-f]{2}){0,15})$/i;
const BYTES = /^[0-9a-f]{2}(?: [0-9a-f]{2}){0,14}$/i;
const LINE_BYTES = 16;
/** `-x` prints the whole header, which of a CardBus bridge is longer. */
const CARDBUS_HEADER_SIZE = 0x80;

/** Whether a line is one of a hex dump (`-x`, `-xxx`, `-xxxx`): `10: 00 00 00 92 0c ...`. */
export function isDumpLine(text: string): boolean {
  return DUMP_LINE.test(text);
}

/** Whether a line holds nothing but bytes: the rest of a wrapped line of a hex dump. */
export function isDumpRest(text: string): boolean {
  return BYTES.test(text);
}

/** The hex dump of one function, put together line by line. */
export class LspciDump {
  /** Made with the first line: most listings have no dump. */
  private bytes: Uint8Array | undefined;
  private length = 0;
  /** What is wrong with the dump, if anything: bytes are missing before this offset. */
  private gapAt: number | undefined;

  /** Takes a line. Lines must follow one another without gaps: what comes after one is not used. */
  add(text: string): void {
    const [, digits, bytes] = DUMP_LINE.exec(text) ?? [];
    if (digits === undefined || bytes === undefined) return;
    if (Number.parseInt(digits, 16) !== this.length) {
      this.gapAt ??= this.length;
      return;
    }
    this.append(bytes);
  }

  /** Takes the rest of a wrapped line. Returns whether the line before it lacked bytes. */
  addRest(text: string): boolean {
    const room = LINE_BYTES - (this.length % LINE_BYTES);
    if (this.length % LINE_BYTES === 0 || text.split(" ").length > room) return false;
    this.append(text);
    return true;
  }

  /**
   * Config space as far as it is whole: 64, 256 or 4096 bytes, 128 of a CardBus bridge; undefined when not even the
   * header is.
   */
  config(): Uint8Array | undefined {
    const size = [EXTENDED_SIZE, CONVENTIONAL_SIZE, this.headerSize()].find((bytes) => bytes <= this.length);
    return size === undefined ? undefined : this.bytes?.slice(0, size);
  }

  /** What is wrong with the dump, in words. */
  problem(): string | undefined {
    const whole = this.config()?.length ?? 0;
    const until = `hex dump: only its first ${whole} bytes are used`;
    if (this.gapAt !== undefined) return `${until}, a line is missing or out of order at offset ${hex(this.gapAt)}`;
    return this.length === whole ? undefined : `${until}, the rest is cut off at ${hex(this.length)}`;
  }

  private headerSize(): number {
    const type = (this.bytes?.[0x0e] ?? 0) & 0x7f;
    return type === CARDBUS_BRIDGE && this.length >= CARDBUS_HEADER_SIZE ? CARDBUS_HEADER_SIZE : HEADER_SIZE;
  }

  private append(bytes: string): void {
    if (this.gapAt !== undefined) return;
    this.bytes ??= new Uint8Array(EXTENDED_SIZE);
    for (const byte of bytes.split(" ")) {
      if (this.length === EXTENDED_SIZE) return;
      this.bytes[this.length++] = Number.parseInt(byte, 16);
    }
  }
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(2, "0")}`;
}
