import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

/** The page: one file with everything in it. */
export interface PageFile {
  html: Uint8Array<ArrayBuffer>;
  gzip: Uint8Array<ArrayBuffer>;
  /** Of its one script, as Content-Security-Policy has it. */
  scriptHash: string;
}

/** Where the build puts it, seen from here and from the sources. */
const PLACES = [new URL("./page.html", import.meta.url), new URL("../../dist/web/page.html", import.meta.url)];

/** @throws when it was not built */
export function readPage(): PageFile {
  const text = firstOf(PLACES);
  const script = /<script type="module">([\s\S]*)<\/script>/.exec(text)?.[1] ?? "";
  const hash = createHash("sha256").update(script).digest("base64");
  const html = new Uint8Array(Buffer.from(text));
  return { html, gzip: new Uint8Array(gzipSync(html, { level: 9 })), scriptHash: `'sha256-${hash}'` };
}

function firstOf(places: readonly URL[]): string {
  for (const place of places) {
    try {
      return readFileSync(place, "utf8");
    } catch {
      // The next may have it.
    }
  }
  throw new Error("the page is not built: npm run build");
}
