import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";

/** A call of one of Node's file functions, by its name in `node:fs`. */
export interface FileCall {
  name: string;
  args: readonly unknown[];
}

type FileFunction = (...args: unknown[]) => unknown;
const functions = fs as unknown as Record<string, FileFunction>;

/**
 * Has `handle` decide about every call of a file function while `work` runs; `perform` makes the call. Only what `work` does
 * before it first waits is seen: code that begins to wait has its calls missed, which tests notice by what is missing then.
 */
export async function intercept<T>(
  work: () => Promise<T>,
  handle: (call: FileCall, perform: (...args: unknown[]) => unknown) => unknown,
): Promise<T> {
  const originals = new Map<string, FileFunction>();
  let inside = false;
  for (const name of Object.keys(functions)) {
    const original = functions[name];
    if (typeof original !== "function" || !/^[a-z]/.test(name)) continue;
    originals.set(name, original);
    functions[name] = (...args: unknown[]) => {
      // Node's own functions call each other.
      if (inside) return original(...args);
      if (!name.endsWith("Sync")) throw new Error(`fs.${name} is not seen through: extend test/ledger`);
      inside = true;
      try {
        return handle({ name, args }, (...changed) => original(...(changed.length > 0 ? changed : args)));
      } finally {
        inside = false;
      }
    };
  }
  syncBuiltinESMExports();
  let done: Promise<T>;
  try {
    done = work();
  } finally {
    for (const [name, original] of originals) functions[name] = original;
    syncBuiltinESMExports();
  }
  return done;
}

/** What the operating system answers when it does not do something. */
export function systemError(code: string, { name }: FileCall): Error {
  return Object.assign(new Error(`${code}: ${name}`), { code, syscall: name.replace(/Sync$/, "") });
}
