import type { ServedJson } from "../../../cli/serve/serving_json.js";

/** What has become of a change: a line for a person. */
export interface Applied {
  ok: boolean;
  line: string;
}

/**
 * Has the server change assignments.
 * @param texts as `linkfence assign` takes them
 * @param send other than the browser's own for tests
 */
export async function applyChanges(
  token: string,
  texts: readonly string[],
  send: typeof fetch = (...args) => fetch(...args),
): Promise<Applied> {
  const given = token.trim();
  // Nothing else can be in a header, or in a token.
  if (!/^[\x21-\x7e]+$/.test(given)) return { ok: false, line: "that is no token: nothing was touched" };
  let response: Response;
  try {
    response = await send("/api/assignments", {
      method: "POST",
      headers: { authorization: `Bearer ${given}`, "content-type": "application/json" },
      body: JSON.stringify({ assign: texts }),
    });
  } catch {
    return { ok: false, line: "the server did not answer; the owners above show what has become of it" };
  }
  if (response.status === 401) return { ok: false, line: "the server does not know this token: nothing was touched" };
  const body = (await response.json().catch(() => ({}))) as Partial<ServedJson> & { error?: unknown };
  if (!response.ok) {
    const why = typeof body.error === "string" ? body.error : `the server answered ${response.status}`;
    return { ok: false, line: `refused: ${why}` };
  }
  const failures = body.failures ?? [];
  if (failures.length > 0) return { ok: false, line: `applied, but ${failures.join("; ")}` };
  const owners = (body.assignments ?? []).map(({ name, members }) => `${name} (${members.join(" ")})`);
  return { ok: true, line: `applied: everything is fenced, serving ${owners.join(", ") || "nothing"}` };
}
