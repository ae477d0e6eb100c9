import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Look } from "./drawing.js";
import { attributesOf, darkStyle, ownerColour } from "./svg_style.js";

/** Relative luminance of a colour (WCAG 2.2). */
function luminance(colour: string): number {
  const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) => {
    const value = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(a: string, b: string): number {
  const [dark = 0, light = 0] = [luminance(a), luminance(b)].sort((one, other) => one - other);
  return (light + 0.05) / (dark + 0.05);
}

type Property = "fill" | "stroke";

const THEMES: Record<string, (look: Look, property: Property) => string> = {
  light: (look, property) => attributesOf(look)[property] ?? "",
  dark: (look, property) => new RegExp(`[{;]${property}:(#\\w+)`).exec(darkStyle([look]))?.[1] ?? "",
};

for (const [theme, colour] of Object.entries(THEMES)) {
  describe(`on a ${theme} background`, () => {
    test("every text stands out from what it is on (4.5 to 1)", () => {
      const grounds: Look[] = ["paper", "socket", "node", "gpu", "pin", "cell", "patch"];
      for (const text of ["text", "strong", "dim", "unknown-text", "owner-text"] as const) {
        for (const ground of grounds) {
          const ratio = contrast(colour(text, "fill"), colour(ground, "fill"));
          assert.ok(ratio >= 4.5, `${text} on ${ground}: ${ratio.toFixed(2)}`);
        }
      }
      assert.ok(contrast(colour("badge-text", "fill"), colour("badge", "fill")) >= 4.5);
    });

    test("every wire stands out from what it crosses (3 to 1)", () => {
      for (const wire of ["up", "cut-one", "cut-both", "unknown", "bad", "bad-unknown", "mark"] as const) {
        for (const ground of ["paper", "socket"] as const) {
          const ratio = contrast(colour(wire, "stroke"), colour(ground, "fill"));
          assert.ok(ratio >= 3, `${wire} on ${ground}: ${ratio.toFixed(2)}`);
        }
      }
    });
  });
}

/**
 * A colour as somebody sees it who lacks one kind of cone, linear RGB: matrices of Viénot, Brettel and Mollon (1999), and for
 * blue of Machado, Oliveira and Fernandes (2009).
 */
const BLINDNESS = {
  protanopia: [0.11238, 0.88762, 0, 0.11238, 0.88762, 0, 0.00401, -0.00401, 1],
  deuteranopia: [0.29275, 0.70725, 0, 0.29275, 0.70725, 0, -0.02234, 0.02234, 1],
  tritanopia: [1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.3039],
} as const;

function seen(colour: string, matrix: readonly number[]): number[] {
  const linear = [1, 3, 5].map((at) => (Number.parseInt(colour.slice(at, at + 2), 16) / 255) ** 2.2);
  return [0, 3, 6].map((row) => {
    const sum = linear.reduce((total, value, column) => total + value * (matrix[row + column] ?? 0), 0);
    return 255 * Math.max(0, sum) ** (1 / 2.2);
  });
}

test("the first four owners differ for colour-blind people by their colours alone", () => {
  for (const [name, matrix] of Object.entries(BLINDNESS)) {
    for (let a = 0; a < 4; a++) {
      for (let b = a + 1; b < 4; b++) {
        const [one, other] = [seen(ownerColour(a), matrix), seen(ownerColour(b), matrix)];
        const apart = Math.hypot(...one.map((value, at) => value - (other[at] ?? 0)));
        assert.ok(apart > 20, `${name}: owners ${a} and ${b} are ${apart.toFixed(0)} apart`);
      }
    }
  }
});

test("the lines by which owners differ are seen on a dark background too (1.4 to 1)", () => {
  for (let owner = 0; owner < 6; owner++) {
    const style = darkStyle([`owner-${owner}`]);
    const [, shade = ""] = new RegExp(`lf-tint-${owner}\\{fill:(#\\w+)`).exec(style) ?? [];
    const [, opacity] =
      new RegExp(`lf-tint-${owner}\\+path\\{stroke:#ffffff;stroke-opacity:([\\d.]+)`).exec(style) ?? [];
    const white = Number(opacity);
    const mixed = [1, 3, 5].map((at) => {
      const value = Math.round(Number.parseInt(shade.slice(at, at + 2), 16) * (1 - white) + 255 * white);
      return value.toString(16).padStart(2, "0");
    });
    const ratio = contrast(shade, `#${mixed.join("")}`);
    assert.ok(ratio >= 1.4, `owner ${owner}: ${ratio.toFixed(2)}`);
  }
});
