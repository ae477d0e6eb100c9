import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const index = fileURLToPath(new URL("./index.js", import.meta.url));

/** Runs code in a process in which koffi cannot be found. */
function runWithoutKoffi(code: string): { status: number | null; output: string } {
  const hide = `
    import Module from "node:module";
    const resolve = Module._resolveFilename;
    Module._resolveFilename = function (name, ...rest) {
      if (name === "koffi") throw Object.assign(new Error("Cannot find module"), { code: "MODULE_NOT_FOUND" });
      return resolve.call(this, name, ...rest);
    };
    const os = await import(${JSON.stringify(index)});
    ${code}`;
  const args = [...process.execArgv, "--input-type=module", "--eval", hide];
  const result = spawnSync(process.execPath, args, { encoding: "utf8" });
  return { status: result.status, output: result.stdout + result.stderr };
}

test("without koffi everything can be imported, and what needs it says what is missing and how to get it", () => {
  const { status, output } = runWithoutKoffi(`
    try { os.createEventfd(); } catch (error) { console.log(error.name, error.code, error.message); }`);
  assert.equal(status, 0, output);
  assert.match(output, /^FfiMissingError ERR_FFI_MISSING koffi, .* cannot be loaded on linux\/\w+; install it with/);
});
