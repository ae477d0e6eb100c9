import assert from "node:assert/strict";
import { test } from "node:test";
import { findSocketGroup } from "./socket_group.js";

const MINE = process.getegid?.() ?? 0;

test("a group is found by number and by name", () => {
  assert.deepEqual(findSocketGroup(String(MINE)), { gid: MINE, name: String(MINE) });
  if (process.geteuid?.() === 0) assert.deepEqual(findSocketGroup("root"), { gid: 0, name: "root" });
});

test("what is no group is refused", () => {
  for (const word of [
    "",
    "no-such-group",
    "-1",
    "4294967295",
    "99999999999999999999",
    "root:x",
    "\x1b[31m",
    "--help",
  ]) {
    assert.throws(() => findSocketGroup(word), { code: "EUSAGE", message: /no such group/ }, word);
  }
});

test("a group that this user is not in is refused, for files could not be given to it", () => {
  if (process.geteuid?.() === 0) assert.equal(findSocketGroup("12345").gid, 12345);
  else assert.throws(() => findSocketGroup("12345"), { code: "EUSAGE", message: /not in this group/ });
});
