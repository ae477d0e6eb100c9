// Checks the vfio-user server with QEMU and a Linux guest; see test/vm/README.md.
// Exit status: 0 passed, 1 failed, 77 skipped because this machine cannot run it.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Runs a command to its end; ends this one when it fails. */
function run(command, args) {
  const { status } = spawnSync(command, args, { cwd: root, stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}

// The guest has no compiler: it runs what is built.
run("npm", ["run", "--silent", "build"]);
run(process.execPath, ["--import", "tsx", "test/vm/vfio_user/check.ts"]);
