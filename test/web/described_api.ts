import { Ajv2020 } from "ajv/dist/2020.js";

/** An operation as OpenAPI describes it. */
interface Operation {
  responses: Record<string, { content?: Record<string, unknown> }>;
}

/** What an OpenAPI description says, and answers held against it. */
export class DescribedApi {
  readonly #paths: Record<string, Record<string, Operation>>;
  readonly #ajv = new Ajv2020({ allErrors: true, strict: true, strictRequired: false });

  constructor(readonly text: string) {
    const description = JSON.parse(text) as { paths: Record<string, Record<string, Operation>> };
    this.#paths = description.paths;
    this.#ajv.addVocabulary(["components", "info", "openapi", "paths", "servers"]);
    this.#ajv.addSchema(description, "api");
  }

  /** `GET /api/status`, of everything that can be asked. */
  get operations(): string[] {
    return Object.entries(this.#paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
  }

  /** What an answer has that its description does not, a line each. */
  async breaches(method: string, path: string, answer: Response): Promise<string[]> {
    const described = this.#paths[path]?.[method.toLowerCase()]?.responses[answer.status];
    if (described === undefined) return [`${method} ${path}: ${answer.status} is not described`];
    const type = answer.headers.get("content-type")?.split(";")[0] ?? "none";
    if (described.content?.[type] === undefined) return [`${method} ${path}: ${type} is not described`];
    const text = await answer.text();
    const value = type === "application/json" ? JSON.parse(text) : text;
    const place = `paths/${escaped(path)}/${method.toLowerCase()}/responses/${answer.status}/content/${escaped(type)}/schema`;
    return this.#breachesOf(place, value);
  }

  /** What a value has that a schema of the description has not, a line each. */
  breachesOfSchema(name: string, value: unknown): string[] {
    return this.#breachesOf(`components/schemas/${name}`, value);
  }

  #breachesOf(place: string, value: unknown): string[] {
    const validate = this.#ajv.getSchema(`api#/${place}`);
    if (validate === undefined) return [`there is no schema ${place}`];
    validate(value);
    return (validate.errors ?? []).map(({ instancePath, message }) => `${place}: ${instancePath} ${message}`);
  }
}

/** As JSON pointers in a URL have it. */
function escaped(word: string): string {
  return encodeURIComponent(word.replaceAll("~", "~0").replaceAll("/", "~1"));
}
