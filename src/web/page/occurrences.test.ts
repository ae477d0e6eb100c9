import assert from "node:assert/strict";
import { test } from "node:test";
import { resetsOf } from "../../../test/made_up_state.js";
import type { PageEvent } from "../snapshot.js";
import { type Occurrence, occurrencesOf } from "./occurrences.js";

/** Events a hundred milliseconds apart. */
function events(...told: Record<string, unknown>[]): PageEvent[] {
  return told.map((each, index) => {
    const time = new Date(1_000_000 + index * 100).toISOString();
    return { number: index + 1, time, event: "fence", ...each };
  });
}

function seen(history: readonly PageEvent[]): Pick<Occurrence, "kind" | "who" | "words" | "tone" | "count">[] {
  const all = occurrencesOf(history, (socket) => `behind ${socket}`);
  return all.map(({ kind, who, words, tone, count }) => ({ kind, who, words, tone, count }));
}

test("a reset is one occurrence, from the reset until its fence is read back", () => {
  const all = occurrencesOf(resetsOf("GPU0", 2), String);
  assert.deepEqual(
    all.map(({ kind, who, start, end, tone }) => [kind, who, (end ?? 0) - start, tone]),
    [
      ["reset", "GPU0", 120, "good"],
      ["reset", "GPU0", 120, "good"],
    ],
  );
  assert.equal(all[0]?.words, "reset and fenced: cut links 2, 3");
});

test("resets of two GPUs at once stay two", () => {
  const both = [...resetsOf("GPU0", 1), ...resetsOf("GPU1", 1, 8)].sort((a, b) => a.time.localeCompare(b.time));
  assert.deepEqual(
    occurrencesOf(both, String).map(({ who, end, start }) => [who, (end ?? 0) - start]),
    [
      ["GPU0", 120],
      ["GPU1", 120],
    ],
  );
});

test("what has begun goes on until it ends, and says how", () => {
  const begun = events({ gpu: "GPU0", step: "sbr" });
  const [under] = occurrencesOf(begun, String);
  assert.deepEqual([under?.end, under?.tone], [undefined, "waiting"]);
  const failed = events(
    { gpu: "GPU0", step: "sbr" },
    { gpu: "GPU0", step: "sequence" },
    { gpu: "GPU0", step: "failed", detail: "no answer" },
  );
  assert.deepEqual(seen(failed), [
    { kind: "reset", who: "GPU0", words: "the reset has failed: no answer", tone: "bad", count: 1 },
  ]);
});

test("links that are cut without a reset, a fence found open, and one that fails by itself are told apart", () => {
  const history = events(
    { gpu: "GPU0", step: "found open", detail: "somebody else has reset it" },
    { gpu: "GPU0", step: "sequence", detail: "cut link 3" },
    { gpu: "GPU0", step: "read back" },
    { gpu: "GPU1", step: "failed", detail: "gone" },
    { gpu: "GPU1", step: "far ends" },
    { gpu: "GPU1", step: "awaits reset", detail: "its next reset brings back link 1" },
  );
  assert.deepEqual(
    seen(history).map(({ kind, words, tone }) => [kind, words, tone]),
    [
      ["found open", "found open: somebody else has reset it", "bad"],
      ["cut", "cut link 3", "good"],
      ["failed", "the fence has failed: gone", "bad"],
      ["other", "its next reset brings back link 1", "waiting"],
    ],
  );
});

test("a history that begins in the middle of a reset has its end", () => {
  const history = resetsOf("GPU0", 1).slice(5);
  assert.deepEqual(
    seen(history).map(({ words, tone }) => [words, tone]),
    [["fenced: cut links 2, 3", "good"]],
  );
});

test("trapped writes that follow each other are one, with those that were only counted", () => {
  const write = { offset: "0x00a00148", asked: "0x00000000", written: null };
  const one = { gpu: "GPU0", step: "guarded write", write };
  const counted = { event: "repeated", what: "guarded write", of: "GPU0", count: 100 };
  const history = events(
    one,
    one,
    { gpu: "GPU1", step: "guarded write", write: { ...write, written: "0x00010000" } },
    counted,
  );
  assert.deepEqual(
    seen(history).map(({ who, words, count }) => [who, words, count]),
    [
      ["GPU0", "a write of 0x00000000 to 0x00a00148 was trapped: nothing was written", 102],
      ["GPU1", "a write of 0x00000000 to 0x00a00148 was trapped: 0x00010000 was written", 1],
    ],
  );
  const later = [...history, { ...one, number: 9, time: new Date(1_010_000).toISOString(), event: "fence" }];
  assert.equal(occurrencesOf(later, String).length, 3);
});

test("clients are told by what is behind their socket", () => {
  const history = events(
    { event: "connect", socket: "/s", peer: { pid: 1, uid: 2, gid: 3 } },
    { event: "refuse", socket: "/s", peer: { pid: 4, uid: 5, gid: 6 } },
    { event: "disconnect", socket: "/s", reason: "it went" },
    { event: "repeated", what: "connect", of: "/s", count: 7 },
  );
  assert.deepEqual(
    seen(history).map(({ who, words }) => `${who} ${words}`),
    [
      "behind /s connected: process 1, uid 2, gid 3",
      "behind /s refused a second client: process 4, uid 5, gid 6",
      "behind /s disconnected: it went",
      "behind /s connect: 7 more within a second",
    ],
  );
});

test("changes are told with who made them, also those that were refused", () => {
  const history = events(
    { event: "changed", assignments: [] },
    { event: "changed", assignments: [], by: { over: "http", from: "127.0.0.1" } },
    { event: "rejected", of: "127.0.0.1", method: "POST", status: 401, message: "no token" },
  );
  assert.deepEqual(
    seen(history).map(({ words }) => words),
    [
      "the assignments have changed",
      "the assignments have changed, over http from 127.0.0.1",
      "a change asked for by 127.0.0.1 was refused: no token",
    ],
  );
});

test("events that nobody knows yet, or that are half there, are told all the same", () => {
  const history = events(
    { event: "new kind" },
    { event: "connect" },
    { event: "fence" },
    { event: "fence", step: "guarded write" },
  );
  assert.deepEqual(
    seen(history).map(({ words }) => words),
    ["new kind", "connected: ", "write to a register that cuts links"],
  );
});
