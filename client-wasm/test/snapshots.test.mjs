// Snapshots, and how much of the log a device keeps.

import assert from "node:assert/strict";
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";

import { pair } from "./support/device.mjs";
import { useRig } from "./support/rig.mjs";

const rig = useRig();
const { scenario, ownRelay, device, pairOfDevices } = rig;

/** Waits until this is the first entry that a device has. */
const comesFirst = ({ page }, text, timeoutMs = 30_000) =>
  page.evaluate(
    async ([text, timeoutMs]) => {
      const first = async () => {
        for await (const { data } of client.entries({ after: 0, own: true })) return new TextDecoder().decode(data);
      };
      const end = Date.now() + timeoutMs;
      for (;;) {
        const found = await first();
        if (found === text) return;
        if (Date.now() > end) throw new Error(`“${found}” comes first`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    [text, timeoutMs],
  );

scenario("a snapshot is what the next device is given first, and then what came since", async () => {
  const [a, b] = await pairOfDevices();
  await b.pushToRelay("one");
  await a.follow();
  await a.texts(1);
  const state = new TextEncoder().encode("all of it");
  const compact = (bytes) => client.compact(new Uint8Array(bytes)).then((pushed) => pushed.atRelay.then(() => "made"), (error) => error.code);
  assert.equal(await a.page.evaluate(compact, [...state]), "not_processed");
  await a.page.evaluate(() => client.processed(received[0].position));
  assert.equal(await a.page.evaluate(compact, [...state]), "made");
  await b.pushToRelay("two");
  await a.texts(2);
  const c = await device("tablet");
  await pair(a, c);
  await c.follow();
  assert.deepEqual(await c.texts(2), ["all of it", "two"]);
  assert.deepEqual((await c.entries()).map(({ position, snapshot }) => [position, snapshot]), [[1, true], [2, false]]);
  // Its own place among them it has once its join has come back from the relay.
  await c.until(() => client.status.group.members.length === 3);
  for (const one of [a, b, c]) assert.deepEqual((await one.status()).group.integrity, []);
});

scenario("a mirror keeps what is behind the newest snapshot, or, where the app says so, all that a relay still serves", async () => {
  const [a, b] = await pairOfDevices();
  // Away before it has read the rest: so the relay goes on serving all of it.
  const c = await device("tablet");
  await pair(a, c);
  await c.page.evaluate(() => client.close());
  const reopen = (mirror) =>
    b.page.evaluate(
      async ([relay, mirror]) => {
        const { Client } = await import("/client/index.js");
        await client.close();
        try {
          globalThis.client = await Client.open({ relay, name: "phone", mirror });
        } catch (error) {
          return error.code;
        }
      },
      [rig.relay.url, mirror],
    );
  assert.equal(await reopen("none"), "invalid_argument");
  assert.equal(await reopen("full"), undefined);
  // A snapshot takes the places of two entries at least.
  for (const text of ["one", "two", "three"]) await a.pushToRelay(text);
  await b.follow();
  await b.texts(3);
  await b.page.evaluate(() => client.processed(received[2].position));
  await a.page.evaluate(async () => (await client.compact(new TextEncoder().encode("all of it"))).atRelay);
  await a.pushToRelay("four");
  await b.texts(4);
  await b.page.evaluate(() => client.processed(received[3].position));

  await comesFirst(a, "all of it");
  // And b knows that a has all of it, too.
  await b.pushToRelay("five");
  await b.until(() => {
    const { storedPush, members } = client.status.group;
    return members.some(({ name, hasPush }) => name === "laptop" && hasPush === storedPush);
  });
  await a.pushToRelay("six");
  await b.texts(5);
  await comesFirst(b, "one", 0);
  assert.equal(await reopen(undefined), undefined);
  await comesFirst(b, "all of it");
  for (const one of [a, b]) assert.deepEqual((await one.status()).group.integrity, []);
});

scenario("with its own mirror a device keeps what it wrote and no snapshot holds, and gives it back to a relay that lost everything", async () => {
  const own = await ownRelay();
  const [a, b] = await pairOfDevices(own.url);
  for (const text of ["one", "two", "three"]) await a.pushToRelay(text);
  await b.follow();
  await b.texts(3);
  await b.page.evaluate(() => client.processed(received[2].position));
  await a.page.evaluate(async () => (await client.compact(new TextEncoder().encode("all of it"))).atRelay);
  const texts = async () => {
    const found = [];
    for await (const { data } of client.entries({ after: 0, own: true })) {
      if (found.push(new TextDecoder().decode(data)) === 3) return found;
    }
  };
  await b.pushToRelay("mine");
  await a.pushToRelay("four");
  await b.texts(4);
  await b.page.evaluate(() => client.processed(received[3].position));
  await comesFirst(b, "all of it");
  assert.deepEqual(await b.page.evaluate(texts), ["all of it", "mine", "four"]);

  await a.page.evaluate(() => client.close());
  await own.stop("SIGKILL");
  for (const file of readdirSync(own.dataDir).filter((name) => name.startsWith("relay.db"))) rmSync(join(own.dataDir, file));
  await own.start();
  await b.until(() => client.status.group.relays.every(({ hasEverything }) => hasEverything) && client.status.group.relayHead > 0);
  const c = await device("tablet", own.url);
  await pair(b, c);
  assert.deepEqual(await c.page.evaluate(texts), ["all of it", "mine", "four"]);
});
