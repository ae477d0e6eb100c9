import assert from "node:assert/strict";
import { tmpdir, userInfo } from "node:os";
import { test } from "node:test";
import { defaultSocketDir, defaultStateDir } from "./default_directory.js";

test("root's directories are the system's", () => {
  const root = { uid: 0, env: { XDG_RUNTIME_DIR: "/run/user/0", XDG_STATE_HOME: "/root/state" } };
  assert.deepEqual([defaultSocketDir(root), defaultStateDir(root)], ["/run/linkfence", "/var/lib/linkfence"]);
});

test("an ordinary user's directories are the user's own, and a relative path in the environment is none", () => {
  const user = { uid: 1000, env: { XDG_RUNTIME_DIR: "/run/user/1000", XDG_STATE_HOME: "/home/u/state" } };
  assert.deepEqual(
    [defaultSocketDir(user), defaultStateDir(user)],
    ["/run/user/1000/linkfence", "/home/u/state/linkfence"],
  );
  const bare = { uid: 1000, env: { XDG_RUNTIME_DIR: "run", XDG_STATE_HOME: "", HOME: "/home/u" } };
  assert.deepEqual(
    [defaultSocketDir(bare), defaultStateDir(bare)],
    [`${tmpdir()}/linkfence-1000`, "/home/u/.local/state/linkfence"],
  );
});

test("a user without HOME has the one that the system knows, and one whom it does not know a temporary one", () => {
  const { uid, homedir } = userInfo();
  for (const env of [{}, { HOME: "" }, { HOME: "rel" }]) {
    if (uid !== 0) assert.equal(defaultStateDir({ uid, env }), `${homedir}/.local/state/linkfence`);
    assert.equal(defaultStateDir({ uid: 4_000_000_000, env }), `${tmpdir()}/linkfence-4000000000-state`);
  }
});

test("a systemd unit's directories come first, of several the first one", () => {
  const unit = { uid: 0, env: { RUNTIME_DIRECTORY: "/run/a:/run/b", STATE_DIRECTORY: "/var/lib/a" } };
  assert.deepEqual([defaultSocketDir(unit), defaultStateDir(unit)], ["/run/a", "/var/lib/a"]);
});
