import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Ajv2020 } from "ajv/dist/2020.js";

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
