// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not reach a terminal
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g;

/** The text with every control character replaced by `?`, so that a name from a hostile tree cannot drive a terminal. */
export function printable(text: string): string {
  return text.replace(CONTROL, "?");
}
