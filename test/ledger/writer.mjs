// Changes a state directory as linkfence does, and dies of SIGKILL just before the given call of a file function, the first
// being 1; 0 for never. With `wait` it says when it is ready, and begins when it is told to.
// Usage: node writer.mjs ledger|wiring STATE_DIR CALL FILE-WITH-THE-NEW-LEDGER|- [wait]
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";

const [what, stateDir, call, file, wait] = process.argv.slice(2);
const dist = new URL("../../dist/", import.meta.url);
const { lockLedger, saveLedger } = await import(new URL("cli/serve/ledger_file.js", dist));
const { keepWiring } = await import(new URL("cli/live/kept_wiring.js", dist));
const { builtinMachine } = await import(new URL("machine/builtin.js", dist));

const machine = { ...builtinMachine("c4140"), virtual: false };
const ledger = what === "ledger" ? JSON.parse(fs.readFileSync(file, "utf8")) : undefined;
lockLedger(stateDir, "uses it");

if (wait === "wait") {
  fs.writeSync(1, "ready\n");
  fs.readSync(0, Buffer.alloc(1));
} else {
  dieBefore(Number(call));
}
if (what === "ledger") await saveLedger(stateDir, ledger);
else await keepWiring(stateDir, machine);
process.exit(0);

/** Counts what is called from outside only: functions of Node's call each other. */
function dieBefore(last) {
  let calls = 0;
  let inside = false;
  for (const name of Object.keys(fs).filter((each) => each.endsWith("Sync"))) {
    const original = fs[name];
    fs[name] = (...args) => {
      if (inside) return original(...args);
      if (++calls === last) process.kill(process.pid, "SIGKILL");
      inside = true;
      try {
        return original(...args);
      } finally {
        inside = false;
      }
    };
  }
  syncBuiltinESMExports();
}
