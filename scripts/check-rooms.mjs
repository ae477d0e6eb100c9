// Checks the import rule of docs/architecture.md: which folder under src/ may import which. Tests may import anything.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const ALL = [
  "pci",
  "devicetree",
  "machine",
  "isolation",
  "vfio",
  "vfio-user",
  "os",
  "virtual",
  "host",
  "fence",
  "picture",
  "cli",
  "web",
];
export const MAY_IMPORT = {
  pci: [],
  devicetree: [],
  machine: ["pci", "devicetree"],
  isolation: ["machine", "pci"],
  vfio: ["pci"],
  "vfio-user": ["vfio", "os"],
  os: [],
  virtual: ["machine", "vfio", "pci", "devicetree", "os"],
  host: ["machine", "vfio", "pci", "devicetree", "os"],
  fence: ["isolation", "machine", "vfio", "pci"],
  picture: ["isolation", "machine", "pci"],
  cli: ALL,
  web: ALL,
};
/** Rooms of pure code: they touch neither files nor processes, so they import nothing of Node's. */
const PURE = ["pci", "devicetree", "machine", "isolation", "vfio", "fence", "picture"];
const IMPORT = /(?:\bfrom|\bimport)\s*\(?\s*["']([^"']+)["']/g;

/** Every breach of the rule below `src`, one line each. */
export function breaches(src) {
  const found = [];
  for (const entry of readdirSync(src, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile() || !/\.tsx?$/.test(entry.name) || /\.test\.tsx?$/.test(entry.name)) continue;
    const file = join(entry.parentPath ?? entry.path, entry.name);
    const [room] = relative(src, file).split("/");
    const rule = MAY_IMPORT[room];
    if (rule === undefined) {
      found.push(`${relative(src, file)}: ${room} is no room of docs/architecture.md`);
      continue;
    }
    for (const [, target] of readFileSync(file, "utf8").matchAll(IMPORT)) {
      const where = relative(src, file);
      if (target.startsWith(".")) {
        const [other] = relative(src, resolve(dirname(file), target)).split("/");
        if (other !== room && !rule.includes(other))
          found.push(`${where}: ${room} may not import ${other} (${target})`);
      } else if (target === "koffi" && room !== "os") {
        found.push(`${where}: only src/os may import koffi`);
      } else if (target.startsWith("node:") && PURE.includes(room)) {
        found.push(`${where}: ${room} is pure and may not import ${target}`);
      }
    }
  }
  return found;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const found = breaches(join(dirname(dirname(fileURLToPath(import.meta.url))), "src"));
  for (const line of found) console.error(line);
  console.log(found.length === 0 ? "import rule: holds" : `import rule: ${found.length} breaches`);
  process.exit(found.length === 0 ? 0 : 1);
}
