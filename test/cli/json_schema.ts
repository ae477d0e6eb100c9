import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Ajv2020 } from "ajv/dist/2020.js";
import { printed } from "./linkfence.js";

const FOLDER = fileURLToPath(new URL("../../docs/schema/", import.meta.url));

/** The schemas of docs/schema by name, `plan` for plan.schema.json. */
export const SCHEMAS: ReadonlyMap<string, Record<string, unknown>> = new Map(
  readdirSync(FOLDER)
    .filter((file) => file.endsWith(".schema.json"))
    .map((file) => [file.replace(".schema.json", ""), JSON.parse(readFileSync(`${FOLDER}${file}`, "utf8"))]),
);

const ajv = new Ajv2020({
  allErrors: true,
  strict: true,
  // A branch of a schema may require what the schema around it defines.
  strictRequired: false,
  schemas: [...SCHEMAS.values()],
});

/** What breaks the schema, a line each; empty for what holds to it. */
export function breaches(schema: string, value: unknown): string[] {
  const validate = ajv.getSchema(`${schema}.schema.json`);
  if (validate === undefined) throw new Error(`there is no schema ${schema}`);
  validate(value);
  return (validate.errors ?? []).map(
    ({ instancePath, message, params }) => `${instancePath} ${message} ${JSON.stringify(params)}`,
  );
}

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
