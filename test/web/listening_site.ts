import { after } from "node:test";
import type { RejectedChange } from "../../src/cli/serve/server_status.js";
import { readHttpSettings } from "../../src/web/http_address.js";
import { type Patience, Site } from "../../src/web/site.js";
import type { FakeServing } from "./fake_serving.js";

export interface ListeningOptions {
  names?: string[];
  patience?: Patience;
  onRejected?: (change: RejectedChange) => void;
}

/** A site that is not open yet, until the tests of the file are done. */
export async function listenFor(
  serving: FakeServing,
  address: string,
  { names = [], onRejected = () => {}, patience }: ListeningOptions = {},
): Promise<{ site: Site; port: number }> {
  const options = { onRejected, ...(patience !== undefined && { patience }) };
  const site = await Site.listen(readHttpSettings(address, names), serving.machine, options);
  after(() => site.close());
  return { site, port: Number(new URL(site.url).port) };
}

/** What an answer says went wrong. */
export function errorIn(body: string): string {
  return (JSON.parse(body) as { error: string }).error;
}
