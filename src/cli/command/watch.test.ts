import assert from "node:assert/strict";
import { test } from "node:test";
import { runWatch } from "./watch.js";

const OPTIONS = { live: true, socketDir: "/nowhere", interval: "500" };

test("only a live host is watched", async () => {
  const message = /only a live host can be watched/;
  await assert.rejects(runWatch({ ...OPTIONS, live: false, machine: "redbud" }), { code: "EUSAGE", message });
});

test("an interval is a number of milliseconds that makes sense", async () => {
  for (const interval of ["", "0", "9", "x", "1e3", "-5", "3600001", "99999999"]) {
    await assert.rejects(runWatch({ ...OPTIONS, interval }), { code: "EUSAGE", message: /--interval .*10 to 3600000/ });
  }
});
