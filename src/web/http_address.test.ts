import assert from "node:assert/strict";
import { test } from "node:test";
import { isLoopback, readHttpSettings, urlHost } from "./http_address.js";

test("an address is HOST:PORT, and a port alone one of this host", () => {
  const read = (text: string, ...names: string[]) => {
    const { host, port } = readHttpSettings(text, names);
    return [host, port];
  };
  assert.deepEqual(read("127.0.0.1:8080"), ["127.0.0.1", 8080]);
  assert.deepEqual(read("8080"), ["127.0.0.1", 8080]);
  assert.deepEqual(read("LocalHost:0"), ["localhost", 0]);
  assert.deepEqual(read("[::1]:65535"), ["::1", 65535]);
  assert.deepEqual(read("gpus.example:80", "gpus.example"), ["gpus.example", 80]);
  assert.deepEqual(read("[2001:db8::1]:80", "x"), ["2001:db8::1", 80]);
});

test("what is no address is refused in one line", () => {
  const wrong = ["", ":", ":80", "host", "host:", "host:x", "1.2.3:80", "127.0.0.1:65536", "::1:80", "[127.0.0.1]:80"];
  for (const text of [
    ...wrong,
    "[::1]",
    "[::1%lo]:80",
    "a b:80",
    "http://127.0.0.1:80",
    "127.0.0.1:80/",
    "-a:80",
    "é:80",
  ]) {
    assert.throws(
      () => readHttpSettings(text, ["x"]),
      { code: "EUSAGE", message: /^--http [^\n]*expected HOST:PORT/ },
      text,
    );
  }
});

test("beyond loopback it has to be said who may call", () => {
  for (const text of [
    "0.0.0.0:80",
    "[::]:80",
    "10.0.0.1:80",
    "gpus.example:80",
    "128.0.0.1:80",
    "[::ffff:127.0.0.1]:80",
  ]) {
    assert.throws(() => readHttpSettings(text), { code: "EUSAGE", message: /is not loopback.*--http-name NAME/ }, text);
    readHttpSettings(text, ["gpus.example"]);
  }
  assert.deepEqual(["localhost", "127.1.2.3", "::1", "127.0.0.1.example"].map(isLoopback), [true, true, true, false]);
});

test("a name is that of a host, without a port, in the one spelling that browsers have for it", () => {
  const names = (...given: string[]) => readHttpSettings("8080", given).names;
  assert.deepEqual(names("GPUs.Example", "10.0.0.1"), ["gpus.example", "10.0.0.1"]);
  assert.deepEqual(names("[2001:DB8:0::1]", "2001:db8::0:1"), ["[2001:db8::1]", "[2001:db8::1]"]);
  for (const name of ["", "a:80", "http://a", "a/b", "*", "a.*", "a b", "[x]", "1.2.3", "[fe80::1%eth0]"]) {
    assert.throws(() => names(name), { code: "EUSAGE", message: /^--http-name .*without a port$/ }, name);
  }
});

test("a URL has the name that was given, or the address that is listened on", () => {
  assert.equal(urlHost(readHttpSettings("localhost:1"), "::1"), "[::1]");
  assert.equal(urlHost(readHttpSettings("localhost:1"), "127.0.0.1"), "127.0.0.1");
  assert.equal(urlHost(readHttpSettings("0.0.0.0:1", ["gpus.example"]), "0.0.0.0"), "gpus.example");
  assert.equal(urlHost(readHttpSettings("[0:0::1]:1"), "::1"), "[::1]");
});
