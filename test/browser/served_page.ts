import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import type { Page } from "playwright-core";
import { type ReadyJson, ServingProcess } from "../cli/serving_process.js";

/** A server with its page, and where it is. */
export interface ServedPage {
  server: ServingProcess & { ready: ReadyJson };
  url: string;
  token: string;
  socketDir: string;
}

/**
 * Starts `linkfence serve --http` on a port of the system's choice, until the test is over.
 * @param machine the name of a built-in one, or a capture file's, ending in .json
 */
export function servePage(t: Pick<TestContext, "after">, machine: string, ...assign: string[]): Promise<ServedPage> {
  return servePageOn(t, "0", machine, ...assign);
}

/** The same on this port. */
export async function servePageOn(
  t: Pick<TestContext, "after">,
  port: string,
  machine: string,
  ...assign: string[]
): Promise<ServedPage> {
  const folder = mkdtempSync(join(tmpdir(), "linkfence-page-"));
  const socketDir = join(folder, "run");
  const directories = ["--socket-dir", socketDir, "--state-dir", join(folder, "state")];
  const assignments = assign.flatMap((each) => ["--assign", each]);
  const server = await ServingProcess.ready(
    ...[machine.endsWith(".json") ? "--capture" : "--machine", machine, ...assignments, ...directories],
    ...["--http", `127.0.0.1:${port}`],
  );
  t.after(async () => {
    await server.end();
    rmSync(folder, { recursive: true, force: true });
  });
  const { http } = server.ready as unknown as { http: { url: string; token: string } };
  return { server, ...http, socketDir };
}

/** Where a function is served, by its name. */
export function socketOf({ server }: ServedPage, name: string): string {
  const { assignments } = server.ready;
  const found = assignments.flatMap(({ functions }) => functions).find((each) => each.name === name);
  if (found === undefined) throw new Error(`${name} is not served`);
  return found.socket;
}

/** Goes to the page, and waits until it shows the machine. */
export async function openPage(page: Page, url: string): Promise<void> {
  await page.goto(url);
  await page.locator("html[data-ready]").waitFor();
}

/** How long it took until the page showed the machine, in milliseconds from the beginning of the navigation. */
export async function readyAfter(page: Page): Promise<number> {
  return Number(await page.locator("html").getAttribute("data-ready"));
}
