import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { forKeeping, pictureDifference } from "./picture_difference.js";

const FOLDER = fileURLToPath(new URL("reference", import.meta.url));
/** Whether the pictures are made anew, as `npm run check:page -- --update` has it, instead of compared. */
const UPDATE = process.env.LINKFENCE_UPDATE_PICTURES === "1";

/**
 * Checks that a screenshot looks as the picture that is kept does; what it is and how it differs is written where it does not.
 * @param name of the picture, without `.png`
 */
export function assertLooksAs(name: string, screenshot: Buffer, folder = FOLDER): void {
  const reference = join(folder, `${name}.png`);
  if (UPDATE) {
    update(reference, screenshot);
    return;
  }
  assert.ok(existsSync(reference), `${reference} is not there: npm run check:page -- --update`);
  const difference = pictureDifference(screenshot, readFileSync(reference));
  if (difference === undefined) return;
  const differing = process.env.LINKFENCE_PICTURES ?? mkdtempSync(join(tmpdir(), "linkfence-pictures-"));
  mkdirSync(differing, { recursive: true });
  writeFileSync(join(differing, `${name}.actual.png`), screenshot);
  if (difference.marked !== undefined) writeFileSync(join(differing, `${name}.difference.png`), difference.marked);
  assert.fail(`${name} looks otherwise: ${difference.reason}; see ${differing}`);
}

/** A picture that has not changed keeps its bytes. */
function update(reference: string, screenshot: Buffer): void {
  if (existsSync(reference) && pictureDifference(screenshot, readFileSync(reference)) === undefined) return;
  writeFileSync(reference, forKeeping(screenshot));
  console.log(`written: ${reference}`);
}
