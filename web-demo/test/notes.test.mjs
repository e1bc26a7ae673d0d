// The list of notes is the same on every device, whatever arrives in whatever order.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { createServer } from "vite";

const vite = await createServer({
  root: fileURLToPath(new URL("..", import.meta.url)),
  configFile: false,
  server: { middlewareMode: true, ws: false, watch: null },
  optimizeDeps: { noDiscovery: true },
  appType: "custom",
  logLevel: "error",
});
after(() => vite.close());

const { Notes } = await vite.ssrLoadModule("/src/notes.ts");
const { decodeChange, encodeChange, NOTE_CHARS_MAX } = await vite.ssrLoadModule("/src/note-blob.ts");
const { guessDeviceName } = await vite.ssrLoadModule("/src/device-name.ts");

const add = (id, text = id) => ({ kind: "add", id, text });
const remove = (id) => ({ kind: "remove", id });
const from = (sender, lamport) => ({ sender, lamport, sentAt: lamport });
const texts = (notes) => notes.list().map(({ text }) => text);
const bytes = (text) => new TextEncoder().encode(text);

test("every order of the same changes gives the same list", () => {
  const changes = [
    [add("a"), from("s1", 1)],
    [add("b"), from("s2", 1)],
    [remove("a"), from("s2", 2)],
    [add("c"), from("s1", 3)],
    [add("c", "another claim to the id"), from("s2", 3)],
  ];
  const orders = permutations(changes);
  assert.equal(orders.length, 120);
  for (const order of orders) {
    const notes = new Notes();
    for (const [change, origin] of order) notes.apply(change, origin);
    assert.deepEqual(texts(notes), ["b", "c"]);
  }
});

test("an own note is shown once: while it waits, and after it came back", () => {
  const notes = new Notes();
  notes.applyOwn(add("a"), 5);
  assert.deepEqual(notes.list().map(({ text, isSent }) => [text, isSent]), [["a", false]]);
  assert.equal(notes.waiting.length, 1);
  notes.apply(add("a"), from("me", 1));
  assert.deepEqual(notes.list().map(({ text, isSent }) => [text, isSent]), [["a", true]]);
  assert.equal(notes.waiting.length, 0);
});

test("what came back already does not wait again after a reload", () => {
  const notes = new Notes();
  notes.apply(add("a"), from("me", 1));
  notes.applyOwn(add("a"), 5);
  assert.equal(notes.waiting.length, 0);
  assert.deepEqual(texts(notes), ["a"]);
});

test("an own removal hides its note at once", () => {
  const notes = new Notes();
  notes.apply(add("a"), from("s1", 1));
  notes.applyOwn(remove("a"), 5);
  assert.deepEqual(texts(notes), []);
  notes.apply(remove("a"), from("me", 2));
  assert.deepEqual(texts(notes), []);
  assert.equal(notes.waiting.length, 0);
});

test("changes survive being encoded", () => {
  for (const change of [add("x", "“Grüße” 👋\n<b>"), remove("x")]) {
    assert.deepEqual(decodeChange(encodeChange(change), "blob"), change);
  }
});

test("plain text from a terminal is a note, known by its blob", () => {
  assert.deepEqual(decodeChange(bytes("hello"), "blob"), add("blob", "hello"));
  assert.deepEqual(decodeChange(bytes('{"no":"note"}'), "blob"), add("blob", '{"no":"note"}'));
});

test("anything else in the group is left alone", () => {
  assert.equal(decodeChange(new Uint8Array([0xff, 0xfe]), "blob"), undefined);
  assert.equal(decodeChange(bytes(" \n"), "blob"), undefined);
  assert.equal(decodeChange(new Uint8Array(), "blob"), undefined);
});

test("a hostile note cannot be longer than the page shows", () => {
  const { text } = decodeChange(bytes("x".repeat(NOTE_CHARS_MAX * 2)), "blob");
  assert.equal(text.length, NOTE_CHARS_MAX);
  assert.notEqual(decodeChange(bytes(JSON.stringify({ id: "x".repeat(100), text: "t" })), "blob").id.length, 100);
});

test("a device has a sensible name by default", () => {
  const chrome = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36";
  const safari = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1";
  assert.equal(guessDeviceName(chrome), "Chrome on Android");
  assert.equal(guessDeviceName(safari), "Safari on iPhone");
  assert.equal(guessDeviceName(`${chrome} Edg/130.0`), "Edge on Android");
  assert.equal(guessDeviceName(""), "Browser on this device");
});

function permutations(items) {
  if (items.length < 2) return [items];
  return items.flatMap((item, at) => permutations(items.toSpliced(at, 1)).map((rest) => [item, ...rest]));
}
