import assert from "node:assert/strict";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { directoryPath, PrivateDirectory } from "./private_directory.js";

const folder = mkdtempSync(join(tmpdir(), "linkfence-directory-"));
after(() => rmSync(folder, { recursive: true }));
const GROUP = { gid: process.getegid?.() ?? 0, name: "mine" };

function mode(path: string): number {
  return statSync(path).mode & 0o7777;
}

test("a directory is made for its owner alone, or for a group to enter, whatever the umask is", () => {
  const umask = process.umask(0o077);
  try {
    new PrivateDirectory(join(folder, "alone/in/here"), "--socket-dir");
    new PrivateDirectory(join(folder, "shared"), "--socket-dir", GROUP);
  } finally {
    process.umask(umask);
  }
  assert.deepEqual([mode(join(folder, "alone/in/here")), mode(join(folder, "shared"))], [0o700, 0o750]);
});

test("what was made is removed again, unless there is something in it", () => {
  new PrivateDirectory(join(folder, "a/b/c"), "--socket-dir").removeIfMade();
  assert.equal(existsSync(join(folder, "a")), false);
  const kept = new PrivateDirectory(join(folder, "d/e"), "--socket-dir");
  writeFileSync(join(folder, "d/e/file"), "");
  kept.removeIfMade();
  assert.equal(existsSync(join(folder, "d/e/file")), true);
  new PrivateDirectory(join(folder, "d"), "--socket-dir").removeIfMade();
  assert.equal(existsSync(join(folder, "d")), true);
});

/** What is at the path, and what the message has to say. */
const REFUSED: [string, (path: string) => void, RegExp][] = [
  ["a file", (path) => writeFileSync(path, ""), /is no directory/],
  ["a directory that all can write to", (path) => makeWith(path, 0o777), /written by others.*chmod go-w/],
  ["a directory that its group can write to", (path) => makeWith(path, 0o770), /written by others/],
  ["a link to a file", (path) => symlinkSync("/etc/passwd", path), /is no directory/],
  ["a link to nothing", (path) => symlinkSync("nothing", path), /no such file/],
];

for (const [what, make, says] of REFUSED) {
  test(`${what} is refused`, () => {
    const path = join(folder, what);
    make(path);
    assert.throws(() => new PrivateDirectory(path, "--socket-dir"), { code: "EUSAGE", message: says });
  });
}

test("a directory below a file is refused", () => {
  const path = join(folder, "below");
  writeFileSync(path, "");
  assert.throws(() => new PrivateDirectory(join(path, "it"), "--state-dir"), {
    code: "EUSAGE",
    message: /--state-dir/,
  });
});

test("what cannot be made is refused, with nothing left of what was made on the way", () => {
  // /proc makes no directories, not even for root.
  for (const path of ["/proc/linkfence", "/proc/self/linkfence/run", join(folder, "long", "x".repeat(300), "y")]) {
    assert.throws(() => new PrivateDirectory(path, "--socket-dir"), {
      code: "EUSAGE",
      message: /^--socket-dir: cannot/,
    });
  }
  assert.equal(existsSync(join(folder, "long")), false);
});

test("a group that may enter the directory may enter what is made on the way to it", () => {
  new PrivateDirectory(join(folder, "way/to/shared"), "--socket-dir", GROUP);
  assert.deepEqual([mode(join(folder, "way")), mode(join(folder, "way/to"))], [0o750, 0o750]);
});

test("a directory of another user's is refused", () => {
  const theirs = process.geteuid?.() === 0 ? join(folder, "theirs") : "/";
  if (theirs !== "/") {
    mkdirSync(theirs);
    chownSync(theirs, 65534, 65534);
  }
  assert.throws(() => new PrivateDirectory(theirs, "--socket-dir"), { message: /belongs to another user \(uid \d+\)/ });
});

test("a directory that is there already is refused for a group that cannot enter it, and else left as it is", () => {
  const path = join(folder, "old");
  makeWith(path, 0o700);
  assert.throws(() => new PrivateDirectory(path, "--socket-dir", GROUP), { message: /group mine.*chmod 750/ });
  new PrivateDirectory(path, "--socket-dir");
  assert.equal(mode(path), 0o700);
  chmodSync(path, 0o755);
  new PrivateDirectory(path, "--socket-dir", GROUP);
  assert.equal(mode(path), 0o755);
});

test("a name that is empty or has control characters is refused, and any other is made absolute", () => {
  for (const name of ["", "a\nb", "a\x1b[31m", "a\x7f", "a\ufffd"]) {
    assert.throws(() => directoryPath(name, "--socket-dir"), { code: "EUSAGE" }, JSON.stringify(name));
  }
  assert.equal(
    directoryPath("ein 'Ordner' \"ä\" 日本", "--socket-dir"),
    join(process.cwd(), "ein 'Ordner' \"ä\" 日本"),
  );
});

function makeWith(path: string, mode: number): void {
  mkdirSync(path);
  chmodSync(path, mode);
}
