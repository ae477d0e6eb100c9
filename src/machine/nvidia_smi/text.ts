/** A text that is not what `nvidia-smi` prints, or contradicts itself. */
export class NvidiaSmiError extends Error {
  readonly code = "ENVIDIA_SMI";
  constructor(
    problem: string,
    /** Line number from 1; absent when the text as a whole is meant. */
    readonly line?: number,
  ) {
    super(line === undefined ? problem : `line ${line}: ${problem}`);
    this.name = "NvidiaSmiError";
  }
}

/** Room for every link of the most GPUs; a text beyond it is something else. */
const MAX_CHARACTERS = 4 << 20;

/** A matrix row of the most GPUs is below this. */
const MAX_LINE = 1 << 16;

/** GPUs of one machine, and links of one GPU, beyond which a number cannot be meant. */
export const MAX_GPUS = 1024;
export const MAX_LINKS = 64;
/** The same for the ports of an NVSwitch: the largest has 72. */
export const MAX_PORTS = 256;

// biome-ignore lint/suspicious/noControlCharactersInRegex: nvidia-smi underlines the matrix's header
const ESCAPE_SEQUENCE = /\x1b\[[0-9;]{0,32}[A-Za-z]|\[[04]m/g;

/**
 * The lines of a text, without line ends and terminal escape sequences, also those that lost their escape
 * character on the way into a bug report.
 * @throws NvidiaSmiError when the text, or a line, is longer than `nvidia-smi` prints
 */
export function textLines(text: string): string[] {
  if (text.length > MAX_CHARACTERS) throw new NvidiaSmiError(`longer than ${MAX_CHARACTERS} characters`);
  return text.split(/\r?\n/).map((line, index) => {
    if (line.length > MAX_LINE) throw new NvidiaSmiError(`longer than ${MAX_LINE} characters`, index + 1);
    return line.replace(ESCAPE_SEQUENCE, "");
  });
}

/** What an error message quotes of a line. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}...` : text);
}
