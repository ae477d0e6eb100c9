/** Elements that have no end tag. */
const VOID = new Set(["meta", "link", "br", "hr", "img", "input"]);

const TOKEN = /<!doctype html>|<(\/?)([a-zA-Z][\w-]*)((?:\s+[\w:-]+(?:="[^"<]*")?)*)\s*(\/?)>|<|[^<]+/gy;

/**
 * The elements of a document in order, each with how deep it stands: `2 title`. Every element is closed where it was opened,
 * every attribute quoted, and no `<` is anything but the beginning of a tag, or it throws.
 */
export function htmlOutline(html: string): string[] {
  const outline: string[] = [];
  const open: string[] = [];
  TOKEN.lastIndex = 0;
  for (const [token, closing, name, , empty] of html.matchAll(TOKEN)) {
    if (token === "<") throw new Error(`"<" that opens no tag after ${outline.length} elements`);
    if (name === undefined) continue;
    if (closing === "/") {
      const last = open.pop();
      if (last !== name) throw new Error(`</${name}> closes <${last}> after ${outline.length} elements`);
      continue;
    }
    outline.push(`${open.length} ${name}`);
    if (!VOID.has(name) && empty !== "/") open.push(name);
  }
  if (open.length > 0) throw new Error(`never closed: ${open.join(", ")}`);
  return outline;
}
