// Bundles the page into one file, with its script and styles in it: dist/web/page.html.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";

/** @param root the project's folder */
export async function buildPage(root) {
  const { outputFiles } = await build({
    entryPoints: [join(root, "src/web/page/main.tsx")],
    bundle: true,
    minify: true,
    format: "esm",
    // What is Node's, and imported by mistake, is an error so.
    platform: "browser",
    target: "es2022",
    jsx: "automatic",
    jsxImportSource: "preact",
    legalComments: "inline",
    outdir: "page",
    write: false,
    logLevel: "warning",
  });
  const text = (ending) => outputFiles.find(({ path }) => path.endsWith(ending))?.text.trim() ?? "";
  // A replacement text has no `$&` of its own this way, and no script ends before its end.
  const html = readFileSync(join(root, "src/web/page/page.html"), "utf8")
    .replace("/* styles */", () => text(".css"))
    .replace("/* script */", () => text(".js").replaceAll("</script", "<\\/script"));
  mkdirSync(join(root, "dist/web"), { recursive: true });
  writeFileSync(join(root, "dist/web/page.html"), html);
}
