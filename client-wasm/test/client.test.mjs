// The package in real Chromium against the real relay: what an app pushes and reads.

import assert from "node:assert/strict";

import { useRig } from "./support/rig.mjs";

const rig = useRig();
const { scenario, newCable, ownRelay, device, pairOfDevices } = rig;

scenario("a fresh client is empty, and says what to do", async () => {
  const a = await device("laptop");
  assert.deepEqual(await a.status(), { state: "empty", storage: "indexeddb", group: undefined, stoppedBy: undefined });
  const error = await a.page.evaluate(() => pushText("x").catch(({ name, code, message }) => ({ name, code, message })));
  assert.deepEqual(error, {
    name: "ZerokError",
    code: "no_group",
    message: "there is no group here yet: create one or join one",
  });
});

scenario("a new group reaches the relay, and a push its disk", async () => {
  const a = await device("laptop");
  await a.createGroup();
  await a.pushToRelay("hello");
  const { group } = await a.status();
  assert.equal(group.deviceName, "laptop");
  assert.deepEqual(group.members.map(({ name, own }) => [name, own]), [["laptop", true]]);
  assert.equal(group.relayKey, rig.relay.key);
  assert.equal(group.outboxCount, 0);
});

scenario("what one pushes the other receives, both ways, and nothing comes back as foreign", async () => {
  const [a, b] = await pairOfDevices();
  await a.follow({ after: 0 });
  await b.follow({ after: 0 });
  await a.push("from a");
  assert.deepEqual(await b.texts(1), ["from a"]);
  await b.push("from b");
  assert.deepEqual(await a.texts(1), ["from b"]);
  const [entry] = await a.entries();
  assert.equal(entry.own, false);
  assert.equal(entry.sender, (await b.status()).group.device);
  assert.match(entry.blobId, /^[0-9a-f]{64}$/);
  assert.ok(entry.cursor > 0 && entry.envelope.length >= 256);
});

scenario("an entry has every field as it was written, however many come at a time and however long they are", async () => {
  const [a, b] = await pairOfDevices();
  const texts = Array.from({ length: 40 }, (_, at) => "x".repeat(at * 97) + at);
  await a.page.evaluate(async (texts) => {
    const pushed = await Promise.all(texts.map((text) => pushText(text)));
    await pushed.at(-1).atRelay;
  }, texts);
  await b.follow();
  assert.deepEqual(await b.texts(texts.length), texts);
  const entries = await b.entries();
  const sender = (await a.status()).group.device;
  const [first] = entries;
  for (const [at, entry] of entries.entries()) {
    const { position, seq, lamport, cursor, sentAt, blobId, envelope, text, ...rest } = entry;
    assert.deepEqual(rest, { sender, own: false, news: true, missingDeps: false, snapshot: false });
    assert.deepEqual([position, seq], [first.position + at, first.seq + at]);
    // The other device's own first entry may stand in between.
    assert.ok(at === 0 || cursor > entries[at - 1].cursor);
    assert.ok(lamport >= seq && Math.abs(sentAt - Date.now()) < 60_000);
    assert.ok(envelope.length >= Math.max(256, text.length) && envelope.length < text.length * 1.2 + 600);
    // Version 1, type entry: an envelope, and not something beside it.
    assert.deepEqual(envelope.slice(0, 2), [1, 0]);
  }
  assert.equal(new Set(entries.map(({ blobId }) => blobId)).size, texts.length);
});

scenario("after a reload the group, the entries and the position are there", async () => {
  const [a, b] = await pairOfDevices();
  for (const text of ["one", "two", "three"]) await a.push(text);
  await b.follow();
  assert.deepEqual(await b.texts(3), ["one", "two", "three"]);
  await b.page.evaluate(() => client.processed(received[1].position));
  await b.until(() => client.status.group.processed > 0);
  await b.page.evaluate(() => client.close());
  await b.reload();
  await b.follow({});
  assert.deepEqual(await b.texts(1), ["three"]);
  await a.push("four");
  assert.deepEqual(await b.texts(2), ["three", "four"]);
});

scenario("edits made offline, on both sides and across a reload, arrive once and in order", async () => {
  const cable = await newCable();
  const [a, b] = await pairOfDevices(cable.url);
  await a.follow();
  await b.follow();
  await a.push("before");
  await b.texts(1);

  cable.pull();
  await a.until(() => client.status.group.connection !== "live");
  for (const text of ["a1", "a2"]) await a.push(text);
  for (const text of ["b1", "b2"]) await b.push(text);
  await a.reload();
  assert.equal((await a.status()).group.outboxCount, 2);
  await a.follow();
  await a.push("a3");
  cable.plugIn();

  for (const one of [a, b]) {
    await one.page.evaluate(() => dispatchEvent(new Event("online")));
    const texts = await one.texts(6);
    assert.deepEqual([...texts].sort(), ["a1", "a2", "a3", "b1", "b2", "before"]);
    assert.deepEqual(texts.filter((text) => text.startsWith("a")), ["a1", "a2", "a3"]);
    assert.deepEqual(texts.filter((text) => /^b\d/.test(text)), ["b1", "b2"]);
    await one.until(() => client.status.group.outboxCount === 0 && client.status.group.connection === "live");
    assert.equal((await one.texts(6)).length, 6);
    assert.deepEqual((await one.status()).group.integrity, []);
  }
});

scenario("a relay killed and started again is found by itself, and nothing is lost or doubled", async () => {
  const own = await ownRelay();
  const [a, b] = await pairOfDevices(own.url);
  await b.follow();
  const pushing = a.page.evaluate(async () => {
    for (let at = 0; at < 200; at++) await pushText(String(at));
  });
  await b.texts(20);
  await own.stop("SIGKILL");
  await pushing;
  await own.start();
  const texts = await b.texts(200);
  assert.deepEqual(texts, Array.from({ length: 200 }, (_, at) => String(at)));
});

scenario("entries end when the app aborts, breaks off, or the client is closed", async () => {
  const a = await device("laptop");
  await a.createGroup();
  const ends = await a.page.evaluate(async () => {
    const stopper = new AbortController();
    const aborted = follow({ signal: stopper.signal }).then(() => "aborted");
    const iterator = client.entries();
    const waiting = iterator.next();
    await iterator.return();
    const closed = follow({}).then(() => "closed");
    stopper.abort();
    const ends = [await aborted, (await waiting).done];
    await client.close();
    return [...ends, await closed];
  });
  assert.deepEqual(ends, ["aborted", true, "closed"]);
});

scenario("a blob over the limit is refused with its size", async () => {
  const a = await device("laptop");
  await a.createGroup();
  const error = await a.page.evaluate(() =>
    client.push(new Uint8Array(33_554_433)).catch(({ code, message }) => ({ code, message })),
  );
  assert.equal(error.code, "too_large");
  assert.match(error.message, /33554433 bytes/);
});

scenario("a blob larger than one entry can be arrives in one piece, also when it is read again", async () => {
  const [a, b] = await pairOfDevices();
  const hash = () => {
    // By value: no two parts of it alike.
    globalThis.large = Uint32Array.from({ length: 400_000 }, (_, at) => at * 2_654_435_761);
    globalThis.hashOf = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).join();
    return hashOf(new Uint8Array(large.buffer));
  };
  const expected = await a.page.evaluate(hash);
  await b.page.evaluate(hash);
  await a.page.evaluate(async () => (await client.push(new Uint8Array(large.buffer))).atRelay);
  await a.push("behind");
  await b.follow();
  await b.texts(2);
  const again = async () => {
    const hashes = [];
    for await (const entry of client.entries({ after: 0 })) {
      hashes.push(await hashOf(entry.data));
      if (hashes.length === 2) return hashes;
    }
  };
  const [whole, behind] = await b.page.evaluate(again);
  assert.equal(whole, expected);
  assert.notEqual(behind, expected);
});

scenario("an unreachable relay does not stop work: the push is durable here and the status says why it waits", async () => {
  const cable = await newCable();
  cable.pull();
  const a = await device("laptop", cable.url);
  await a.createGroup();
  await a.push("kept");
  await a.until(() => client.status.group.problem?.code === "unreachable");
  cable.plugIn();
  await a.page.evaluate(() => dispatchEvent(new Event("online")));
  await a.until(() => client.status.group.outboxCount === 0 && client.status.group.problem === undefined);
});

scenario("a relay with another key than the given one is refused before anything is sent to it", async () => {
  const { page } = await device("laptop");
  const problem = await page.evaluate(async (relay) => {
    const { Client } = await import("/client/index.js");
    const other = await Client.open({ relay, database: "other", relayKey: "17".repeat(32) });
    await other.createGroup();
    return new Promise((resolve) => {
      other.onStatus(({ group }) => group.problem && resolve(group.problem.code));
    });
  }, rig.relay.url);
  assert.equal(problem, "relay_key_changed");
});

scenario("nothing in these pages failed uncaught", async () => {
  const [a, b] = await pairOfDevices();
  await a.push("x");
  await b.follow();
  await b.texts(1);
  assert.deepEqual([...a.problems, ...b.problems], []);
});
