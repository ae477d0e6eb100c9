import assert from "node:assert/strict";
import { test } from "node:test";
import { Validator } from "@seriousme/openapi-schema-validator";
import { DescribedApi } from "../../test/web/described_api.js";
import { builtinMachine } from "../machine/builtin.js";
import { makeApp } from "./app.js";
import { Metrics } from "./metrics.js";
import { openApiText } from "./openapi.js";

const text = openApiText();

test("the description is OpenAPI 3.1, and every reference in it leads somewhere", async () => {
  const validator = new Validator();
  const { valid, errors } = await validator.validate(JSON.parse(text));
  assert.ok(valid, JSON.stringify(errors));
  assert.equal(validator.version, "3.1");
  const { components } = JSON.parse(text) as { components: { schemas: Record<string, unknown> } };
  const references = [...text.matchAll(/"\$ref":"([^"]*)"/g)].map(([, target]) => target ?? "");
  assert.ok(references.length > 100);
  for (const target of references) {
    assert.match(target, /^#\/components\/schemas\//);
    assert.ok(components.schemas[target.slice("#/components/schemas/".length)] !== undefined, target);
  }
});

test("every route there is is described, and no other", () => {
  const app = makeApp({
    settings: { host: "127.0.0.1", port: 1, names: [] },
    port: 1,
    token: "token",
    page: { html: new Uint8Array(), gzip: new Uint8Array(), scriptHash: "" },
    metrics: new Metrics(builtinMachine("redbud")),
    description: text,
    site: () => undefined,
    onRejected: () => {},
  });
  const routes = app.routes.filter(({ method }) => method !== "ALL");
  const there = routes.map(({ method, path }) => `${method} ${path.replace(/:(\w+)/g, "{$1}")}`);
  assert.deepEqual([...new Set(there)].sort(), new DescribedApi(text).operations.sort());
});

test("an answer that is not as described is told", async () => {
  const api = new DescribedApi(text);
  const answer = (value: unknown, status = 200) => Response.json(value, { status });
  assert.deepEqual(await api.breaches("GET", "/api/groups", answer({ error: "no" }, 503)), []);
  assert.notDeepEqual(await api.breaches("GET", "/api/groups", answer({ machine: "redbud" })), []);
  assert.notDeepEqual(await api.breaches("GET", "/api/groups", answer({ error: "no" }, 418)), []);
  assert.notDeepEqual(await api.breaches("GET", "/api/groups", new Response("text")), []);
  assert.notDeepEqual(await api.breaches("PUT", "/api/groups", answer({})), []);
});
