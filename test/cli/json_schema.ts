import assert from "node:assert/strict";
import { printed } from "./linkfence.js";
import { breaches } from "./schema_breaches.js";

export { breaches, SCHEMAS } from "./schema_breaches.js";

/**
 * The JSON that a command prints, held against its schema.
 * @param Shape what the test looks at of it
 */
export function conforming<Shape>(schema: string, text: string): Shape {
  const value = JSON.parse(text);
  assert.deepEqual(breaches(schema, value), [], schema);
  return value;
}

/** Runs a command with --json and returns what it prints, held against its schema. The first argument names both. */
export async function json<Shape>(status: number, command: string, ...args: string[]): Promise<Shape> {
  return conforming<Shape>(command, await printed(status, command, ...args, "--json"));
}
