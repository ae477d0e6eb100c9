import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PROJECT } from "../project_folder.js";
import { forKeeping, pictureDifference } from "./picture_difference.js";

const FOLDER = join(PROJECT, "test/browser/reference");
const DOCS = join(PROJECT, "docs");
/** Whether the pictures are made anew, as `npm run check:page -- --update` has it, instead of compared. */
const UPDATE = process.env.LINKFENCE_UPDATE_PICTURES === "1";

/** Checks that a screenshot looks as `reference/NAME.png` does; what it is and how it differs is written where it does not. */
export function assertLooksAs(name: string, screenshot: Buffer): void {
  compare(name, screenshot, join(FOLDER, `${name}.png`));
}

/** The same for `docs/NAME.png`, which is kept in all its colours, for people look at it. */
export function assertLooksAsInDocs(name: string, screenshot: Buffer): void {
  compare(name, screenshot, join(DOCS, `${name}.png`), 1);
}

/** @param step see {@link forKeeping} */
function compare(name: string, screenshot: Buffer, reference: string, step?: number): void {
  if (UPDATE) {
    update(reference, screenshot, step);
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
function update(reference: string, screenshot: Buffer, step?: number): void {
  if (existsSync(reference) && pictureDifference(screenshot, readFileSync(reference)) === undefined) return;
  writeFileSync(reference, forKeeping(screenshot, step));
  console.log(`written: ${reference}`);
}
