import assert from "node:assert/strict";

/** One metric as it is told. */
interface Family {
  type: string;
  /** By name and labels, as they stand there. */
  samples: Map<string, number>;
}

const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)$/;

/**
 * Reads the text format of Prometheus, strictly, and by its conventions.
 * @returns samples by name and labels
 */
export function readExposition(text: string): Map<string, number> {
  assert.ok(text.endsWith("\n"));
  const families = new Map<string, Family & { help: boolean }>();
  let current = "";
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const [, word, name = "", rest = ""] = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line) ?? [];
    if (word === "HELP") {
      assert.ok(!families.has(name), `${name} is told twice`);
      assert.match(rest, /^[A-Z].*\.$/, name);
      families.set(name, { type: "", help: true, samples: new Map() });
      current = name;
    } else if (word === "TYPE") {
      const family = families.get(name);
      assert.ok(family?.type === "" && name === current, `TYPE of ${name} follows its HELP`);
      family.type = rest;
    } else {
      const [, sample = "", labels = "", value = ""] = SAMPLE.exec(line) ?? assert.fail(`no sample: ${line}`);
      const family = families.get(current);
      assert.ok(family !== undefined && family.type !== "", line);
      const suffixes = family.type === "histogram" ? ["_bucket", "_sum", "_count"] : [""];
      assert.ok(suffixes.includes(sample.slice(current.length)) && sample.startsWith(current), line);
      const key = labels === "" ? sample : `${sample}{${labels}}`;
      assert.ok(!family.samples.has(key), `twice: ${key}`);
      assert.match(value, /^(?:[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?|\+Inf)$/, line);
      family.samples.set(key, Number(value));
    }
  }
  for (const [name, family] of families) checkFamily(name, family);
  return new Map([...families.values()].flatMap(({ samples }) => [...samples]));
}

function checkFamily(name: string, { type, samples }: Family): void {
  assert.match(name, /^(?:linkfence_[a-z_]+|process_start_time_seconds)$/);
  assert.ok(["counter", "gauge", "histogram"].includes(type), `${name} is a ${type}`);
  assert.equal(name.endsWith("_total"), type === "counter", name);
  assert.doesNotMatch(name, /_(?:ms|milliseconds|kb|mb|percent)(?:_|$)/, name);
  for (const [key, value] of samples) if (type !== "gauge") assert.ok(value >= 0, key);
  if (type === "histogram") checkHistogram(name, samples);
}

/** Each series ascends to its count. */
function checkHistogram(name: string, samples: ReadonlyMap<string, number>): void {
  const series = new Map<string, [number, number][]>();
  for (const [key, value] of samples) {
    const [, bound, labels = ""] = /_bucket\{le="([^"]+)",?(.*)\}$/.exec(key) ?? [];
    if (bound === undefined) continue;
    const buckets = series.get(labels) ?? [];
    series.set(labels, buckets);
    buckets.push([bound === "+Inf" ? Number.POSITIVE_INFINITY : Number(bound), value]);
  }
  assert.ok(series.size > 0, name);
  for (const [labels, buckets] of series) {
    for (const [at, [bound, value]] of buckets.entries()) {
      const [before, less] = buckets[at - 1] ?? [0, 0];
      assert.ok(bound > before && value >= less, `${name} ${labels} ${bound}`);
    }
    const [last, all] = buckets.at(-1) ?? [0, 0];
    assert.equal(last, Number.POSITIVE_INFINITY);
    assert.equal(samples.get(`${name}_count{${labels}}`), all);
    assert.ok(samples.has(`${name}_sum{${labels}}`));
  }
}
