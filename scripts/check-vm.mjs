// Checks the vfio-user server with QEMU and a Linux guest; see test/vm/README.md.
// Exit status: 0 passed, 77 skipped because this machine cannot run it, else failed.
import { spawnSync } from "node:child_process";
import { ensureBuilt, root } from "./setup.mjs";

// The guest runs what is built: it has no compiler.
ensureBuilt();
const { status } = spawnSync(process.execPath, ["--import", "tsx", "test/vm/vfio_user/check.ts"], {
  cwd: root,
  stdio: "inherit",
});
process.exit(status ?? 1);
