import { parseArgs } from "node:util";

/** Says in one line what is wrong with the arguments, and ends. */
export function refuse(program, message) {
  console.error(`${program}: ${message}`);
  process.exit(2);
}

/** The options given, of those that there are; anything else is refused. */
export function given(program, options) {
  try {
    return parseArgs({ options }).values;
  } catch (error) {
    return refuse(program, error.message.split("\n")[0]);
  }
}

/** A number of an option, undefined where it is not given. */
export function numberOf(program, values, name, { least = 0, most = 2 ** 31, whole = true } = {}) {
  const value = values[name];
  if (value === undefined) return undefined;
  const fits = whole ? /^\d+$/.test(value) : /^\d+(\.\d+)?$/.test(value);
  if (fits && Number(value) >= least && Number(value) <= most) return Number(value);
  return refuse(
    program,
    `--${name} ${value}: a ${whole ? "whole number" : "number"} from ${least} to ${most} is wanted`,
  );
}
