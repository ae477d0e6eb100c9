import { readdirSync, readFileSync } from "node:fs";
import { VERSION } from "../cli/version.js";
import { EVENT_STREAM_SCHEMAS } from "./event_schemas.js";

type Json = { [key: string]: unknown };

/** The same from here and from where the build puts it. */
const FOLDER = new URL("../../docs/schema/", import.meta.url);
const ENDING = ".schema.json";

/** The OpenAPI description of everything that can be asked over HTTP, as JSON. Its schemas are those of docs/schema. */
export function openApiText(): string {
  return JSON.stringify({
    openapi: "3.1.0",
    info: {
      title: "linkfence serve",
      version: VERSION,
      summary: "What a running server has fenced, serves, and would do; and its assignments to change.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/" }],
    paths: PATHS,
    components: {
      schemas: { ...schemasOfCommands(), ...EVENT_STREAM_SCHEMAS, error: ERROR },
      securitySchemes: {
        token: { type: "http", scheme: "bearer", description: "What `linkfence serve` has printed when it was ready." },
      },
    },
  });
}

const ERROR: Json = {
  description: "What went wrong, in one line for a person.",
  type: "object",
  properties: { error: { type: "string" } },
  required: ["error"],
  additionalProperties: false,
};

const reference = (name: string): Json => ({ $ref: `#/components/schemas/${name}` });
const content = (type: string, schema: Json): Json => ({ content: { [type]: { schema } } });
const json = (description: string, name: string): Json => ({
  description,
  ...content("application/json", reference(name)),
});
const failed = (description: string): Json => json(description, "error");

/** What may be answered to anything. */
const ANY_TIME: Json = {
  "403": failed("It comes from another site."),
  "421": failed("It calls this host by a name that it has not."),
  "503": failed("Not everything is fenced yet, the hardware cannot be looked at, or too many watch."),
};
const BY_TOKEN: Json = {
  "400": failed("It is not what was expected."),
  "401": failed("It came without the token, or with another."),
  "409": failed("Refused at this moment; nothing has changed."),
  "413": failed("The body is too long."),
};

function get(summary: string, ok: Json, more: Json = {}, responses: Json = {}): Json {
  return { get: { summary, ...more, responses: { "200": ok, ...responses, ...ANY_TIME } } };
}

const DESCRIPTION = get("This description.", {
  description: "An OpenAPI description.",
  ...content("application/json", { type: "object" }),
});

const PATHS: Json = {
  "/": get("The page.", { description: "HTML.", ...content("text/html", { type: "string" }) }),
  "/metrics": get("The metrics, for Prometheus.", {
    description: "The text format of Prometheus.",
    ...content("text/plain", { type: "string" }),
  }),
  "/api": DESCRIPTION,
  "/api/openapi.json": DESCRIPTION,
  "/api/status": get("What is fenced, served and attached.", json("As `linkfence status --json`.", "status")),
  "/api/machine": get(
    "The machine, with what its registers say at this moment and the assignments.",
    json("A capture file.", "capture-file"),
  ),
  "/api/groups": get("IOMMU groups, isolation now and possible.", json("As `linkfence groups --json`.", "groups")),
  "/api/audit": get("What crosses between owners at this moment.", json("As `linkfence audit --json`.", "audit")),
  "/api/plan": get(
    "What these assignments would cut. Nothing is touched.",
    json("As `linkfence plan --json`; one that cannot isolate says so in `isolated` and `problems`.", "plan"),
    {
      parameters: [
        {
          name: "assign",
          in: "query",
          description: "An assignment, `vm1=GPU0,GPU1`. Without any, those of this moment.",
          schema: { type: "array", items: { type: "string" }, maxItems: 256 },
          style: "form",
          explode: true,
        },
      ],
    },
    { "400": failed("No assignments of this machine.") },
  ),
  "/api/topology.svg": get("The picture, as it is at this moment.", {
    description: "Without anything from elsewhere.",
    ...content("image/svg+xml", { type: "string" }),
  }),
  "/api/assignments": {
    ...get("What is served, and how QEMU and libvirt get at it.", json("All assignments.", "assign")),
    post: {
      summary: "Adds, replaces or ends assignments, as `linkfence assign` does.",
      security: [{ token: [] }],
      requestBody: {
        required: true,
        ...content("application/json", {
          type: "object",
          properties: {
            assign: {
              description: "`NAME=GPU,...` adds or replaces, `NAME=` ends.",
              type: "array",
              items: { type: "string" },
              minItems: 1,
              maxItems: 256,
            },
          },
          required: ["assign"],
          additionalProperties: false,
        }),
      },
      responses: { "200": json("What is served then.", "assign"), ...BY_TOKEN, ...ANY_TIME },
    },
  },
  "/api/assignments/{name}": {
    delete: {
      summary: "Ends an assignment, as `linkfence release` does.",
      security: [{ token: [] }],
      parameters: [{ name: "name", in: "path", required: true, schema: { type: "string" } }],
      responses: {
        "200": json("What is served then.", "assign"),
        "404": failed("There is no such assignment."),
        ...BY_TOKEN,
        ...ANY_TIME,
      },
    },
  },
  "/api/events": get("What happens, as it happens.", {
    description:
      `Server-sent events, each with JSON: first a \`snapshot\`; then \`state\` when anything is different, \`events\` when
something has happened, \`blind\` when what is now is not known any more, until the next state or snapshot, and \`beat\` when
nothing else was said for five seconds. Who has missed events gets a snapshot again.`.replaceAll("\n", " "),
    ...content("text/event-stream", { type: "string", contentSchema: reference("event-stream") }),
  }),
};

/** The schemas of docs/schema as components: what is in a file's `$defs` is one of its own, `common.time` say. */
function schemasOfCommands(): Json {
  const schemas: Json = {};
  for (const file of readdirSync(FOLDER).filter((name) => name.endsWith(ENDING))) {
    const name = file.slice(0, -ENDING.length);
    const { $schema: _, $id: __, $defs = {}, ...schema } = JSON.parse(readFileSync(new URL(file, FOLDER), "utf8"));
    if (name !== "common") schemas[name] = relocated(schema, name);
    for (const [term, definition] of Object.entries($defs)) schemas[`${name}.${term}`] = relocated(definition, name);
  }
  return schemas;
}

/** With its references leading to components. */
function relocated(value: unknown, name: string): unknown {
  if (Array.isArray(value)) return value.map((item) => relocated(item, name));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => {
      const [, file, term] = (key === "$ref" && /^(?:(.*)\.schema\.json)?#\/\$defs\/(.*)$/.exec(String(item))) || [];
      return [key, term === undefined ? relocated(item, name) : `#/components/schemas/${file ?? name}.${term}`];
    }),
  );
}
