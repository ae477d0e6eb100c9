import type { Random } from "../random.js";
import { edgeNumber } from "./mutation.js";
import type { Mutation } from "./target.js";

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** Somewhere in a document: what holds the value, and by which key. */
interface Place {
  holder: Json[] | { [key: string]: Json };
  key: string;
}

const ODD_VALUES: readonly [Json, ...Json[]] = [
  null, true, false, 0, -1, 1, 0.5, 1e308, 2 ** 53, 0xffff, 255, "", "0x0", "host", "unknown", "0x", "constructor",
  "__proto__", "\u0000", "\u2028", "\ud800", [], {}, [[[[[[]]]]]],
]; // biome-ignore format: a list

/** Changes to a JSON document as a whole: what comes out is JSON again, so that more than its parser is reached. */
export const JSON_MUTATIONS: readonly Mutation[] = [
  inDocument(({ holder, key }) => remove(holder, key)),
  inDocument(({ holder, key }, random) => put(holder, key, random.pick(ODD_VALUES))),
  inDocument(({ holder, key }, random, other) => put(holder, key, valueAt(anyPlace(other, random)) ?? null)),
  inDocument(({ holder, key }, random, other) => {
    const from = anyPlace(other, random);
    put(holder, Array.isArray(holder) ? String(holder.length) : (from?.key ?? key), valueAt(from) ?? null);
  }),
  inDocument((place, random) => {
    const { holder } = place;
    if (!Array.isArray(holder)) return;
    holder.splice(random.below(holder.length + 1), 0, structuredClone(valueAt(place) ?? null));
  }),
  inDocument(({ holder, key }, random) => {
    const keys = Object.keys(holder);
    const second = keys[random.below(keys.length)] ?? key;
    const [a, b] = [valueAt({ holder, key }), valueAt({ holder, key: second })];
    put(holder, key, b ?? null);
    put(holder, second, a ?? null);
  }),
  inDocument((place, random) => put(place.holder, place.key, near(valueAt(place) ?? null, random))),
  inDocument((place, random) => put(place.holder, place.key, near(valueAt(place) ?? null, random))),
];

function inDocument(change: (place: Place, random: Random, other: Json) => void): Mutation {
  return (input, random, other) => {
    const document = parsed(input);
    const place = anyPlace(document, random);
    if (place === undefined) return input;
    change(place, random, structuredClone(parsed(other) ?? null));
    return Buffer.from(JSON.stringify(document));
  };
}

function parsed(input: Uint8Array): Json | undefined {
  try {
    return JSON.parse(Buffer.from(input).toString("utf8"));
  } catch {
    return undefined;
  }
}

/** A place anywhere in a document, those near its root as likely as those far below. */
function anyPlace(document: Json | undefined, random: Random): Place | undefined {
  let place: Place | undefined;
  let value = document;
  while (typeof value === "object" && value !== null) {
    const keys = Object.keys(value);
    const key = keys[random.below(keys.length)];
    if (key === undefined || (place !== undefined && random.once(5))) break;
    place = { holder: value, key };
    value = valueAt(place);
  }
  return place;
}

function valueAt(place: Place | undefined): Json | undefined {
  return place && (place.holder as { [key: string]: Json })[place.key];
}

function put(holder: Place["holder"], key: string, value: Json): void {
  Object.defineProperty(holder, key, { value, writable: true, enumerable: true, configurable: true });
}

function remove(holder: Place["holder"], key: string): void {
  if (Array.isArray(holder)) holder.splice(Number(key), 1);
  else delete holder[key];
}

/** A value a little off. */
function near(value: Json, random: Random): Json {
  if (typeof value === "number") return random.once(2) ? value + random.below(3) - 1 : Number(edgeNumber(random));
  if (typeof value === "boolean") return !value;
  if (typeof value !== "string" || value === "") return value;
  if (/^0x/.test(value) && random.once(2)) return `0x${edgeNumber(random).toString(16)}`;
  const at = random.below(value.length);
  const character = random.pick(["0", "1", "f", ":", ".", " ", "\u001b", "\u200f", "ä", "7", value[at] ?? "x"]);
  const kept = random.once(2) ? at + 1 : at;
  return value.slice(0, at) + character.repeat(random.once(30) ? 5000 : 1) + value.slice(kept);
}
