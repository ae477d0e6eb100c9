/**
 * Splits a kernel command line into its parameters as the kernel does (lib/cmdline.c `next_arg`): white space
 * separates, double quotes protect it, and everything after a bare `--` belongs to init. Dashes and underscores in a
 * name are the same to the kernel, so names come back with underscores. A value is undefined when there was no `=`.
 */
export function kernelParameters(commandLine: string): { name: string; value: string | undefined }[] {
  const parameters: { name: string; value: string | undefined }[] = [];
  for (const [word] of commandLine.matchAll(/(?:[^\s"]|"[^"]*"?)+/g)) {
    if (word === "--") break;
    const plain = word.replaceAll('"', "");
    const equals = plain.indexOf("=");
    const name = (equals < 0 ? plain : plain.slice(0, equals)).replaceAll("-", "_");
    parameters.push({ name, value: equals < 0 ? undefined : plain.slice(equals + 1) });
  }
  return parameters;
}

/**
 * Reads a truth value as the kernel's `kstrtobool` does (lib/kstrtox.c): the first letter decides, for `o` the second.
 * Undefined for anything else, which to the kernel is an error.
 */
export function kstrtobool(text: string): boolean | undefined {
  switch (text[0]?.toLowerCase()) {
    case "y":
    case "t":
    case "1":
      return true;
    case "n":
    case "f":
    case "0":
      return false;
    case "o":
      return { n: true, f: false }[text[1]?.toLowerCase() ?? ""];
    default:
      return undefined;
  }
}

/** What a command line says of `isolate_nvlink`: the value in force, and values the kernel would have refused. */
export interface IsolateNvlink {
  on: boolean;
  refused: string[];
}

/**
 * `isolate_nvlink` on a kernel command line: off by default, on without a value, else by {@link kstrtobool}. A refused
 * value leaves what was in force before it; the last good one wins.
 */
export function isolateNvlink(commandLine: string): IsolateNvlink {
  const result: IsolateNvlink = { on: false, refused: [] };
  for (const { name, value } of kernelParameters(commandLine)) {
    if (name !== "isolate_nvlink") continue;
    const on = value === undefined ? true : kstrtobool(value);
    if (on === undefined) result.refused.push(value ?? "");
    else result.on = on;
  }
  return result;
}
