// Loaded before `linkfence serve`: dies of SIGKILL just before the call of a file function that DIE_BEFORE names by its
// number, 1 being the first of the second write of a ledger, which is that of a change.
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { isMainThread } from "node:worker_threads";

const last = Number(process.env.DIE_BEFORE);
let writes = 0;
let calls = 0;

function count(name, path) {
  if (name === "openSync" && /ledger\.json\.[0-9a-f]+$/.test(String(path))) writes++;
  if (writes === 2 && ++calls === last) process.kill(process.pid, "SIGKILL");
}

if (isMainThread && last > 0) {
  for (const name of Object.keys(fs).filter((each) => each.endsWith("Sync"))) {
    const original = fs[name];
    fs[name] = (...args) => {
      count(name, args[0]);
      return original(...args);
    };
  }
  syncBuiltinESMExports();
}
