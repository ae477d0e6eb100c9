import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { breaches, SCHEMAS } from "./json_schema.js";

type Schema = Record<string, unknown>;

function isSchema(value: unknown): value is Schema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Every object inside a schema, with where it is. */
function* within(value: unknown, path: string): Generator<[string, Schema]> {
  if (Array.isArray(value)) for (const [index, item] of value.entries()) yield* within(item, `${path}/${index}`);
  if (!isSchema(value)) return;
  yield [path, value];
  for (const [key, item] of Object.entries(value)) yield* within(item, `${path}/${key}`);
}

test("every schema is of draft 2020-12, has a title and a description, and says what it refuses", () => {
  assert.ok(SCHEMAS.size >= 9);
  for (const [name, schema] of SCHEMAS) {
    assert.equal(schema.$schema, "https://json-schema.org/draft/2020-12/schema", name);
    assert.equal(schema.$id, `${name}.schema.json`, name);
    for (const word of ["title", "description"]) assert.match(String(schema[word]), /.{10}/, `${name} ${word}`);
    // Compiles it, in the validator's strict mode.
    if (name !== "common") assert.notDeepEqual(breaches(name, {}), [], name);
  }
});

test("every object refuses what it does not know, and every field is described", () => {
  const terms = SCHEMAS.get("common")?.$defs;
  assert.ok(isSchema(terms));
  for (const [name, schema] of SCHEMAS) {
    for (const [path, part] of within(schema, name)) {
      if (!isSchema(part.properties) || path.includes("/oneOf/")) continue;
      if (part.type === "object") assert.equal(part.additionalProperties, false, path);
      for (const [field, property] of Object.entries(part.properties)) {
        assert.ok(isSchema(property), `${path} ${field}`);
        const [, term] = /#\/\$defs\/(.+)$/.exec(String(property.$ref)) ?? [];
        const own = isSchema(schema.$defs) ? schema.$defs[term ?? ""] : undefined;
        const meant = own ?? terms[term ?? ""];
        const description = property.description ?? (isSchema(meant) ? meant.description : undefined);
        assert.match(String(description ?? ""), /.{5}/, `${path}: ${field} has no description`);
      }
    }
  }
});

test("the list of schemas names each", () => {
  const list = readFileSync(new URL("../../docs/schema/README.md", import.meta.url), "utf8");
  for (const name of SCHEMAS.keys()) assert.ok(list.includes(`](${name}.schema.json)`), name);
});

test("a schema tells a field that is missing, new, or of another kind", () => {
  const good = { machine: "redbud", virtual: true, out: "full.dtb", bytes: 104778, gpus: ["GPU0"], bridges: 12 };
  assert.deepEqual(breaches("firmware", good), []);
  const { bytes: _, ...missing } = good;
  for (const bad of [missing, { ...good, extra: 1 }, { ...good, virtual: false }, { ...good, bridges: -1 }, []]) {
    assert.notDeepEqual(breaches("firmware", bad), [], JSON.stringify(bad));
  }
});
