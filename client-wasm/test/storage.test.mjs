// Both storages against the same rules, in a real browser: what the core rests on.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launchChromium } from "./support/chromium.mjs";
import { makeWebRoot, serve } from "./support/web-root.mjs";

let browser;
let web;
let server;

before(async () => {
  web = makeWebRoot();
  [browser, server] = await Promise.all([launchChromium(), serve(web.path)]);
});

after(async () => {
  await browser?.close();
  await server?.stop();
  web?.remove();
});

/** A page of a fresh profile in which `open(kind)` makes a storage. */
async function freshPage() {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(server.url);
  await page.evaluate(async () => {
    const { IndexedDbStorage } = await import("/client/indexeddb.js");
    const { MemoryStorage } = await import("/client/memory.js");
    globalThis.lost = [];
    globalThis.open = (kind, name = "test") =>
      kind === "memory" ? new MemoryStorage() : IndexedDbStorage.open(name, (error) => globalThis.lost.push(error.code));
    globalThis.bytes = (...values) => new Uint8Array(values);
    globalThis.all = async (storage) => {
      const { keys, values } = await storage.scan(bytes(), bytes(255), Infinity);
      return keys.map((key, at) => [[...key], [...values[at]]]);
    };
  });
  return page;
}

for (const kind of ["memory", "indexeddb"]) {
  test(`${kind}: rows come in bytewise order of their keys, from included, to excluded`, async () => {
    const page = await freshPage();
    const keys = await page.evaluate(async (kind) => {
      const storage = await open(kind);
      const unordered = [bytes(2), bytes(1, 255), bytes(1), bytes(128), bytes(1, 0), bytes(3)];
      await storage.commit(unordered, unordered);
      const rows = await storage.scan(bytes(1, 0), bytes(3), Infinity);
      return rows.keys.map((key) => [...key]);
    }, kind);
    assert.deepEqual(keys, [[1, 0], [1, 255], [2]]);
  });

  test(`${kind}: a scan stops after the first row that reaches its bound`, async () => {
    const page = await freshPage();
    const lengths = await page.evaluate(async (kind) => {
      const storage = await open(kind);
      const keys = Array.from({ length: 200 }, (_, at) => bytes(at));
      await storage.commit(keys, keys.map(() => new Uint8Array(10)));
      const scan = async (bytesMax) => (await storage.scan(bytes(), bytes(255), bytesMax)).keys.length;
      return [await scan(1), await scan(10), await scan(11), await scan(1000), await scan(1_000_000)];
    }, kind);
    assert.deepEqual(lengths, [1, 1, 2, 100, 200]);
  });

  test(`${kind}: for one key the last change of a batch counts`, async () => {
    const page = await freshPage();
    const rows = await page.evaluate(async (kind) => {
      const storage = await open(kind);
      await storage.commit([bytes(1), bytes(2)], [bytes(10), bytes(20)]);
      await storage.commit(
        [bytes(1), bytes(1), bytes(2), bytes(2), bytes(9)],
        [undefined, bytes(11), bytes(21), undefined, undefined],
      );
      return all(storage);
    }, kind);
    assert.deepEqual(rows, [[[1], [11]]]);
  });
}

test("a batch with one bad row leaves nothing behind", async () => {
  const page = await freshPage();
  const result = await page.evaluate(async () => {
    const storage = await open("indexeddb");
    const code = await storage.commit([bytes(1), {}], [bytes(1), bytes(2)]).catch((error) => error.code);
    return { code, rows: await all(storage) };
  });
  assert.deepEqual(result, { code: "storage_failed", rows: [] });
});

test("rows and the store key are there after the page was left", async () => {
  const page = await freshPage();
  const before = await page.evaluate(async () => {
    const storage = await open("indexeddb");
    await storage.commit([bytes(1)], [bytes(7)]);
    return [...storage.storedKey];
  });
  const other = await page.context().newPage();
  await page.close();
  await other.goto(server.url);
  const { key, rows } = await other.evaluate(async () => {
    const { IndexedDbStorage } = await import("/client/indexeddb.js");
    const storage = await IndexedDbStorage.open("test", () => {});
    const { keys } = await storage.scan(new Uint8Array(), new Uint8Array([255]), Infinity);
    return { key: [...storage.storedKey], rows: keys.length };
  });
  assert.equal(rows, 1);
  assert.equal(before.length, 32);
  assert.deepEqual(key, before);
});

test("who lost the database to a newer opener cannot write into it", async () => {
  const page = await freshPage();
  const result = await page.evaluate(async () => {
    const old = await open("indexeddb");
    await old.commit([bytes(1)], [bytes(1)]);
    const newer = await open("indexeddb");
    const error = await old.commit([bytes(2)], [bytes(2)]).catch((error) => error);
    await newer.commit([bytes(3)], [bytes(3)]);
    return { code: error.code, message: error.message, rows: await all(newer) };
  });
  assert.equal(result.code, "storage_failed");
  assert.match(result.message, /another tab/);
  assert.deepEqual(result.rows, [[[1], [1]], [[3], [3]]]);
});

test("a full quota is told as storage_full, and what was there stays", async () => {
  const page = await freshPage();
  const session = await page.context().newCDPSession(page);
  await session.send("Storage.overrideQuotaForOrigin", { origin: server.url, quotaSize: 300_000 });
  const result = await page.evaluate(async () => {
    const storage = await open("indexeddb");
    await storage.commit([bytes(1)], [bytes(1)]);
    // Random, or the browser's compression would make room.
    const value = new Uint8Array(2_000_000);
    for (let at = 0; at < value.length; at += 65_536) crypto.getRandomValues(value.subarray(at, at + 65_536));
    const code = await storage.commit([bytes(2)], [value]).catch((error) => error.code);
    return { code, rows: await all(storage) };
  });
  assert.deepEqual(result, { code: "storage_full", rows: [[[1], [1]]] });
});

test("a database deleted under an open client is told once", async () => {
  const page = await freshPage();
  const result = await page.evaluate(async () => {
    const storage = await open("indexeddb");
    await new Promise((resolve) => (indexedDB.deleteDatabase("test").onsuccess = resolve));
    const code = await storage.commit([bytes(1)], [bytes(1)]).catch((error) => error.code);
    return { lost, code };
  });
  assert.deepEqual(result, { lost: ["storage_failed"], code: "storage_failed" });
});

test("a database of a newer version is refused and left alone", async () => {
  const page = await freshPage();
  const code = await page.evaluate(async () => {
    await new Promise((resolve) => {
      const request = indexedDB.open("test", 2);
      request.onsuccess = () => resolve(request.result.close());
    });
    return open("indexeddb").catch((error) => error.code);
  });
  assert.equal(code, "newer_database");
});

test("two openers of one lock: the second hears that the database is in use, and gets it once it is free", async () => {
  const page = await freshPage();
  const result = await page.evaluate(async () => {
    const { lockDatabase } = await import("/client/lock.js");
    const release = await lockDatabase("test");
    const refused = await lockDatabase("test").catch((error) => error.code);
    release();
    const again = await lockDatabase("test");
    return { refused, again: typeof again };
  });
  assert.deepEqual(result, { refused: "database_in_use", again: "function" });
});
