import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { mirroredPieces, reachesMirror } from "./config_mirror.js";

test("an access falls into pieces that have all of its bytes, each on its own side", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0x87000, max: 0x8a000 }), fc.integer({ min: 1, max: 0x2000 }), (offset, length) => {
      const data = new Uint8Array(length);
      const pieces = mirroredPieces(offset, data);
      let at = offset;
      for (const piece of pieces) {
        assert.equal(piece.offset, at);
        assert.equal(piece.data.byteOffset - data.byteOffset, at - offset);
        const inside = piece.offset >= 0x88000 && piece.offset < 0x89000;
        const rearm = piece.offset >= 0x88704 && piece.offset < 0x88708;
        assert.equal(piece.isConfig, inside && !rearm);
        const last = piece.offset + piece.data.length - 1;
        assert.equal(last >= 0x88000 && last < 0x89000 && !(last >= 0x88704 && last < 0x88708), piece.isConfig);
        at += piece.data.length;
      }
      assert.equal(at, offset + length);
      assert.equal(
        reachesMirror(offset, length),
        pieces.some(({ offset: begin }) => begin >= 0x88000 && begin < 0x89000),
      );
    }),
  );
});
