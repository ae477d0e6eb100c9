import type { HttpBindings } from "@hono/node-server";
import { getConnInfo } from "@hono/node-server/conninfo";
import type { Context, Hono, MiddlewareHandler } from "hono";
import { bearerAuth } from "hono/bearer-auth";
import { bodyLimit } from "hono/body-limit";
import { HTTPException } from "hono/http-exception";
import * as v from "valibot";
import { failureLine, UsageError } from "../cli/failure.js";
import { jsonText } from "../cli/output.js";
import { changedAssignments, withoutAssignment } from "../cli/serve/assignment_change.js";
import { type ChangeRequest, MAX_REQUEST } from "../cli/serve/control_protocol.js";
import type { Assignment, Machine } from "../machine/machine.js";
import { auditOf, captureOf, groupsOf, planOf, servedOf } from "./answers.js";
import { eventStream } from "./event_stream.js";
import type { Look } from "./looks.js";
import type { OpenSite } from "./open_site.js";

export interface AppEnvironment {
  Bindings: HttpBindings;
  Variables: { site: OpenSite };
}

type AppContext = Context<AppEnvironment>;

const MAX_ASSIGNMENTS = 256;
const Texts = v.pipe(v.array(v.string()), v.maxLength(MAX_ASSIGNMENTS));
const PlanQuery = v.strictObject({ assign: v.optional(Texts, []) });
const AssignBody = v.strictObject({ assign: v.pipe(Texts, v.minLength(1)) });

/** The routes under /api. */
export function addApi(app: Hono<AppEnvironment>, token: string, description: string): void {
  for (const path of ["/api", "/api/openapi.json"]) app.get(path, (context) => asJson(context, description));
  const look = (path: string, answer: (look: Look, site: OpenSite, context: AppContext) => object) =>
    app.get(path, async (context) => {
      const { site } = context.var;
      return asJson(context, jsonText(answer(await site.looks.next(), site, context)));
    });
  look("/api/status", ({ state }) => state.status);
  look("/api/audit", (now, { watched }) => auditOf(now, watched.planning));
  look("/api/groups", (now, { watched }) => groupsOf(now, watched.planning));
  look("/api/plan", (now, { watched }, { req }) => {
    const { assign } = read(PlanQuery, req.queries(), "the query is assign=NAME=GPU,... any number of times");
    return planOf(now, watched.planning, assign);
  });
  look("/api/assignments", ({ status }) => servedOf(status));
  app.get("/api/machine", async (context) => asJson(context, captureOf(await context.var.site.looks.next())));
  app.get("/api/topology.svg", async (context) => {
    const { looks, picture, watched } = context.var.site;
    const svg = picture.of(await looks.next(), watched.planning);
    return context.body(svg, 200, { "content-type": "image/svg+xml" });
  });
  app.get("/api/events", (context) => eventStream(context, context.var.site.live));
  const withToken = tokenCheck(token);
  const limited = bodyLimit({ maxSize: MAX_REQUEST, onError: tooLarge });
  app.post("/api/assignments", withToken, limited, async (context) => {
    const { assign } = read(AssignBody, await bodyOf(context), 'the body is {"assign":["NAME=GPU,...",...]}');
    return change(context, { command: "assign", assign });
  });
  app.delete("/api/assignments/:name", withToken, limited, (context) =>
    change(context, { command: "release", name: context.req.param("name") }),
  );
}

/** Bad input is found first; what is refused after that is refused for what is going on. */
async function change(context: AppContext, request: ChangeRequest): Promise<Response> {
  const { watched } = context.var.site;
  requireSense(request, watched.machine, (await watched.status()).ledger.assignments);
  // It takes as long as resets take, in which nothing is sent.
  context.env.incoming.setTimeout(0);
  const by = { over: "http", from: addressOf(context) } as const;
  const status = await watched.change(request, by).catch((error: unknown) => {
    throw error instanceof UsageError ? new HTTPException(409, { message: failureLine(error) }) : error;
  });
  return asJson(context, jsonText(servedOf(status)));
}

/** @throws UsageError or AssignmentError for what is no assignment; HTTPException 404 for one that there is not */
function requireSense(request: ChangeRequest, machine: Machine, current: readonly Assignment[]): void {
  if (request.command === "assign") {
    changedAssignments(machine, current, request.assign);
    return;
  }
  try {
    withoutAssignment(current, request.name);
  } catch (error) {
    throw new HTTPException(404, { message: failureLine(error) });
  }
}

/** Where a request comes from. */
export function addressOf(context: AppContext): string {
  return getConnInfo(context).remote.address ?? "unknown";
}

/** Without it no change is made. */
function tokenCheck(token: string): MiddlewareHandler {
  const answer = (error: string) => ({ message: { error } });
  return bearerAuth({
    token,
    realm: "linkfence",
    noAuthenticationHeader: answer("a change needs the token that linkfence serve has printed"),
    invalidAuthenticationHeader: answer("expected Authorization: Bearer TOKEN"),
    invalidToken: answer("this is not the token that linkfence serve has printed"),
  });
}

function tooLarge(): never {
  throw new HTTPException(413, { message: `a body has ${MAX_REQUEST} bytes at most` });
}

async function bodyOf({ req }: AppContext): Promise<unknown> {
  try {
    return await req.json();
  } catch {
    throw new UsageError("the body is no JSON");
  }
}

/** @throws UsageError with what was expected */
function read<Schema extends v.GenericSchema>(schema: Schema, value: unknown, expected: string): v.InferOutput<Schema> {
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  throw new UsageError(expected);
}

function asJson(context: AppContext, text: string): Response {
  return context.body(text, 200, { "content-type": "application/json" });
}
