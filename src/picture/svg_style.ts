import type { Look } from "./drawing.js";

/** Attributes of SVG, and those that are different on a dark background. */
interface Style {
  light: Readonly<Record<string, string>>;
  dark: Readonly<Record<string, string>>;
}

const line = (width: number, light: string, dark: string, more: Record<string, string> = {}): Style => ({
  light: { fill: "none", stroke: light, "stroke-width": String(width), ...more },
  dark: { stroke: dark },
});

const area = (light: [string, string], dark: [string, string], more: Record<string, string> = {}): Style => ({
  light: { fill: light[0], stroke: light[1], ...more },
  dark: { fill: dark[0], stroke: dark[1] },
});

const ink = (light: string, dark: string, more: Record<string, string> = {}): Style => ({
  light: { fill: light, ...more },
  dark: { fill: dark },
});

const STYLES: Record<Exclude<Look, `owner-${number}`>, Style> = {
  paper: ink("#ffffff", "#14181d"),
  socket: area(["#f3f5f7", "#b8c0c8"], ["#1c2229", "#46525e"]),
  group: area(["none", "#5b6672"], ["none", "#9aa7b4"], { "stroke-dasharray": "3 3", "stroke-width": "1.2" }),
  node: area(["#e1e7ec", "#b8c0c8"], ["#2a333c", "#46525e"]),
  gpu: area(["#ffffff", "#3a4651"], ["#10141a", "#a7b4c0"], { "stroke-width": "1.4" }),
  pin: area(["#eef1f4", "#8a96a2"], ["#232b33", "#63707d"], { "stroke-width": "0.8" }),
  cell: area(["#ffffff", "#8a96a2"], ["#10141a", "#63707d"]),
  bar: area(["#cfd8e0", "#5b6672"], ["#37434e", "#9aa7b4"]),
  leader: line(1, "#8a96a2", "#63707d", { "stroke-dasharray": "1 4" }),
  stem: line(1.5, "#8a96a2", "#63707d"),
  up: line(2.6, "#1b2733", "#e6edf3"),
  "cut-one": line(1.6, "#5b6672", "#9aa7b4", { "stroke-dasharray": "9 5" }),
  "cut-both": line(1.6, "#727e8a", "#7d8b99", { "stroke-dasharray": "2 5" }),
  unknown: line(2, "#5b6672", "#9aa7b4", { "stroke-dasharray": "9 4 2 4" }),
  bad: line(3, "#d55e00", "#ff8a3d"),
  "bad-unknown": line(3, "#d55e00", "#ff8a3d", { "stroke-dasharray": "9 4 2 4" }),
  mark: line(2, "#1b2733", "#e6edf3"),
  dot: area(["#1b2733", "#1b2733"], ["#e6edf3", "#e6edf3"]),
  "bad-dot": area(["#d55e00", "#ffffff"], ["#ff8a3d", "#14181d"]),
  patch: ink("#ffffff", "#14181d", { "fill-opacity": "0.75" }),
  badge: area(["#d55e00", "#ffffff"], ["#ff8a3d", "#14181d"], { "stroke-width": "1.5" }),
  text: ink("#1b2733", "#e6edf3"),
  strong: ink("#1b2733", "#e6edf3", { "font-weight": "bold" }),
  dim: ink("#4d5965", "#a7b4c0"),
  "owner-text": ink("#10161c", "#ffffff", { "font-weight": "bold" }),
  "badge-text": ink("#000000", "#000000", { "font-weight": "bold" }),
  "unknown-text": ink("#1b2733", "#e6edf3", { "font-weight": "bold" }),
};

/**
 * Okabe and Ito's colours, which colour-blind people can tell apart, without the red of findings: as a tint behind black
 * text, themselves for the edge, and as a shade behind white text.
 */
const OWNER_COLOURS = [
  { tint: "#9ad2f2", edge: "#2f86ba", shade: "#1d5f8a" },
  { tint: "#f3c766", edge: "#a87400", shade: "#7a5400" },
  { tint: "#66c5ab", edge: "#007a59", shade: "#00624a" },
  { tint: "#e0aeca", edge: "#a44f7e", shade: "#7d3f62" },
  { tint: "#f4ec84", edge: "#8f8700", shade: "#6e6800" },
  { tint: "#7fb1d4", edge: "#0072b2", shade: "#004a75" },
] as const;

/** Lines by which owners differ where colours do not: as many as are prime to the colours, so that 42 are different. */
const OWNER_PATTERNS = [
  "",
  "M0 10L10 0",
  "M0 5H10",
  "M5 0V10",
  "M0 0L10 10M0 10L10 0",
  "M0 5H10M5 0V10",
  "M0 0L10 10",
] as const;

/**
 * The attributes of a look.
 * @param ids what ids begin with
 */
export function attributesOf(look: Look, ids = ""): Readonly<Record<string, string>> {
  const owner = ownerOf(look);
  if (owner !== undefined)
    return { fill: `url(#${ids}lf-owner-${owner})`, stroke: colourOf(owner).edge, "stroke-width": "2" };
  return STYLES[look as keyof typeof STYLES].light;
}

/** The style sheet for a dark background. */
export function darkStyle(looks: Iterable<Look>): string {
  const rules = [...looks].flatMap((look) => {
    const owner = ownerOf(look);
    if (owner !== undefined) {
      return [
        `.lf-${look}{stroke:${colourOf(owner).tint}}`,
        `.lf-tint-${owner}{fill:${colourOf(owner).shade}}`,
        `.lf-tint-${owner}+path{stroke:#ffffff;stroke-opacity:0.45}`,
      ];
    }
    const { dark } = STYLES[look as keyof typeof STYLES];
    return [
      `.lf-${look}{${Object.entries(dark)
        .map(([name, value]) => `${name}:${value}`)
        .join(";")}}`,
    ];
  });
  return `@media screen and (prefers-color-scheme:dark){${rules.join("")}}`;
}

/** The pattern that fills an owner's areas. */
export function patternOf(owner: number, ids = ""): string {
  const { tint } = colourOf(owner);
  const lines = OWNER_PATTERNS[owner % OWNER_PATTERNS.length] ?? "";
  const drawn = lines === "" ? "" : `<path d="${lines}" fill="none" stroke="#000000" stroke-opacity="0.25"/>`;
  return (
    `<pattern id="${ids}lf-owner-${owner}" width="10" height="10" patternUnits="userSpaceOnUse">` +
    `<rect class="lf-tint-${owner}" width="10" height="10" fill="${tint}"/>${drawn}</pattern>`
  );
}

/** The number of the owner that a look is of. */
export function ownerOf(look: Look): number | undefined {
  return look.startsWith("owner-") && look !== "owner-text" ? Number(look.slice("owner-".length)) : undefined;
}

function colourOf(owner: number): (typeof OWNER_COLOURS)[number] {
  return OWNER_COLOURS[owner % OWNER_COLOURS.length] ?? OWNER_COLOURS[0];
}

/** The colour of an owner's things behind black text. */
export function ownerColour(owner: number): string {
  return colourOf(owner).tint;
}
