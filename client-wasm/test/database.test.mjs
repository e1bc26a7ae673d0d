// Who has the database: one tab, the right passphrase, an export file; and what happens when it goes.

import assert from "node:assert/strict";

import { openDevice } from "./support/device.mjs";
import { useRig } from "./support/rig.mjs";

const rig = useRig();
const { scenario, device, pairOfDevices } = rig;

scenario("a second tab hears that the group is open elsewhere, and gets it when the first closes", async () => {
  const a = await device("laptop");
  await a.createGroup();
  const second = await a.page.context().newPage();
  await second.goto(rig.relay.url);
  const open = () =>
    second.evaluate(async (relay) => {
      const { Client } = await import("/client/index.js");
      return Client.open({ relay }).then(
        (client) => client.status.state,
        (error) => error.code,
      );
    }, rig.relay.url);
  assert.equal(await open(), "database_in_use");
  await a.page.evaluate(() => client.close());
  assert.equal(await open(), "open");
});

scenario("where Web Locks are missing, the newest tab has the group and the older one stops before it sends anything", async () => {
  const a = await device("laptop");
  const context = a.page.context();
  await context.addInitScript(() => delete Navigator.prototype.locks);
  await a.reload();
  await a.createGroup();
  await a.pushToRelay("one");
  const newer = await openDevice(context, rig.relay.url, rig.relay.url, "laptop");
  assert.equal((await newer.status()).state, "open");
  const { code, message } = await a.page.evaluate(() => pushText("two").catch(({ code, message }) => ({ code, message })));
  assert.equal(code, "storage_failed");
  assert.match(message, /another tab/);
  assert.equal((await a.status()).state, "stopped");
  await newer.pushToRelay("three");
  await newer.follow();
  assert.deepEqual(await newer.texts(2), ["one", "three"]);
});

scenario("a database deleted under an open client stops it, and says so to everybody who waits", async () => {
  const a = await device("laptop");
  await a.createGroup();
  const result = await a.page.evaluate(async () => {
    const reading = follow({}).catch((error) => error.code);
    await new Promise((resolve) => (indexedDB.deleteDatabase("0k-sync/default").onsuccess = resolve));
    const pushing = await pushText("x").catch((error) => error.code);
    return { state: client.status.state, why: client.status.stoppedBy.code, reading: await reading, pushing };
  });
  assert.deepEqual(result, {
    state: "stopped",
    why: "storage_failed",
    reading: "storage_failed",
    pushing: "storage_failed",
  });
});

scenario("a database under a passphrase opens with that one only, and without again once it is taken away", async () => {
  const a = await device("laptop");
  await a.createGroup();
  await a.push("kept");
  const outcome = await a.page.evaluate(async (relay) => {
    const { Client } = await import("/client/index.js");
    const open = (passphrase) =>
      Client.open({ relay, passphrase }).then(
        async (opened) => ((globalThis.client = opened), opened.status.state),
        (error) => error.code,
      );
    const short = await client.setPassphrase("short").catch((error) => error.code);
    await client.setPassphrase("correct horse");
    await client.close();
    const locked = [await open(), await open("battery staple"), await open("correct horse")];
    await client.setPassphrase(undefined);
    await client.close();
    return { short, locked, unlocked: await open() };
  }, rig.relay.url);
  assert.deepEqual(outcome, {
    short: "invalid_argument",
    locked: ["passphrase_needed", "wrong_passphrase", "open"],
    unlocked: "open",
  });
  await a.until(() => client.status.group.outboxCount === 0);
});

scenario("an export shows its entries to who has the passphrase, and with the identity it is the device again", async () => {
  const [a, b] = await pairOfDevices();
  await a.pushToRelay("one");
  await b.pushToRelay("two");
  await a.follow();
  await a.texts(2);
  const outcome = await a.page.evaluate(async (relay) => {
    const { Client, readExport } = await import("/client/index.js");
    const read = async (file, passphrase) => {
      const texts = [];
      try {
        for await (const entry of readExport(file, passphrase)) texts.push(new TextDecoder().decode(entry.data));
        return texts;
      } catch (error) {
        return [...texts, error.code];
      }
    };
    const file = await client.export({ passphrase: "correct horse" });
    const device = await client.export({ passphrase: "correct horse", identity: true });
    const was = client.status.group.device;
    await client.close();
    const other = await Client.open({ relay, database: "put back" });
    const archive = await other.import(file, "correct horse").catch((error) => error.code);
    const cutOff = await other.import(device.slice(0, device.size - 1), "correct horse").catch((error) => error.code);
    const { state } = other.status;
    await other.import(device, "correct horse");
    globalThis.client = other;
    return {
      read: await read(file, "correct horse"),
      wrong: await read(file, "battery staple"),
      cut: await read(file.slice(0, file.size - 1), "correct horse"),
      refused: [archive, cutOff, state],
      same: other.status.group.device === was,
    };
  }, rig.relay.url);
  assert.deepEqual(outcome, {
    read: ["one", "two"],
    wrong: ["wrong_passphrase"],
    cut: ["invalid_export"],
    refused: ["invalid_export", "invalid_export", "empty"],
    same: true,
  });
  await a.pushToRelay("three");
  await b.follow();
  assert.deepEqual(await b.texts(3), ["one", "two", "three"]);
});
