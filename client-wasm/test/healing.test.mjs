// A relay's rows are changed by hand: each device can find that, put it right, and tell how it stands.

import assert from "node:assert/strict";
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";

import { editDatabase } from "./support/database.mjs";
import { pair } from "./support/device.mjs";
import { attempt, useRig } from "./support/rig.mjs";

const rig = useRig();
const { scenario, ownRelay, device, pairOfDevices } = rig;

const verify = (one) => one.page.evaluate(() => client.verify());
const repair = (one) => one.page.evaluate(() => client.repair());
const kindsOf = (findings) => findings.map(({ kind }) => kind);
const integrity = async (one) => (await one.status()).group.integrity;

/** Collects what a device is told. */
const listen = (one, ...events) =>
  one.page.evaluate((events) => {
    globalThis.heard = [];
    for (const event of events) client.on(event, (detail) => heard.push([event, detail]));
  }, events);

const heard = (one) => one.page.evaluate(() => globalThis.heard);

const NEWEST = "cursor = (SELECT max(cursor) FROM entries)";
/** The last bit of an envelope is part of what its authentication covers. */
const FLIP_A_BIT = `UPDATE entries SET envelope = unhex(substr(hex(envelope), 1, 2 * length(envelope) - 1)
  || substr('1032547698BADCFE', instr('0123456789ABCDEF', substr(hex(envelope), -1)), 1)) WHERE ${NEWEST}`;

/** Does something to a relay's rows while it does not run. */
async function tamper(relay, ...statements) {
  await relay.stop();
  for (const statement of statements) assert.equal(editDatabase(relay.dataDir, statement), 1, statement);
  await relay.start();
}

/** Two devices that have read two entries, on a relay of their own. */
async function readByBoth() {
  const relay = await ownRelay();
  const [a, b] = await pairOfDevices(relay.url);
  // What they write as they pair stands before that.
  for (const one of [a, b]) await one.until(() => client.members.length === 2 && client.status.group.outboxCount === 0);
  for (const text of ["one", "two"]) await a.pushToRelay(text);
  for (const one of [a, b]) {
    await one.follow();
    await one.texts(2);
  }
  return { relay, a, b };
}

scenario("a_proto_01: a row spoiled after both devices have read it is found by verify and put right by repair", async () => {
  const { relay, a, b } = await readByBoth();
  const whole = [{ url: relay.url, compared: true, problem: undefined }];
  const before = await verify(a);
  assert.deepEqual([before.findings, before.relays], [[], whole]);
  assert.ok(before.entries >= 4, "the two joined, and pushed two");

  await tamper(relay, FLIP_A_BIT);
  const { cursor, blobId } = (await a.entries()).at(-1);
  // An honest relay notices by itself that these bytes are not that entry, and keeps them to itself.
  const lost = { kind: "lost", evidence: { cursor, blobId } };
  await listen(a, "integrity", "repairing");
  for (const time of ["first", "second"]) {
    const { findings, relays } = await verify(a);
    assert.deepEqual([findings, relays], [[lost], whole], `${time} time: to look heals nothing`);
  }
  assert.deepEqual((await heard(a)).filter(([event]) => event === "integrity"), [["integrity", lost]]);
  assert.deepEqual((await verify(b)).findings, [lost], "also by who did not write it");

  const [healed, ...more] = await repair(a);
  assert.deepEqual(more, []);
  assert.deepEqual(healed, { ...whole[0], putBack: 1, hasEverything: true });
  const told = (await heard(a)).filter(([event]) => event === "repairing").map(([, detail]) => detail);
  assert.ok(told.some(({ relay: at, examined, uploaded, done }) => at === relay.url && examined > 0 && uploaded === 1 && done), JSON.stringify(told));
  const { putBack, unhealed, settled, hasEverything } = (await a.status()).group.relays[0];
  assert.deepEqual({ putBack, unhealed, settled, hasEverything }, { putBack: 1, unhealed: false, settled: true, hasEverything: true });
  for (const one of [a, b]) {
    const { findings, relays } = await verify(one);
    assert.deepEqual([findings, relays], [[], whole]);
    assert.deepEqual(await integrity(one), []);
  }
  assert.deepEqual(await repair(b), [{ ...whole[0], putBack: 0, hasEverything: true }], "nothing is left to do");
  const c = await device("tablet", relay.url);
  await pair(b, c);
  await c.follow();
  assert.deepEqual(await c.texts(2), ["one", "two"]);
});

scenario("a_proto_02: another group's row in the place of one that both devices have read is found by verify, and what stood there is put back", async () => {
  const { relay, a, b } = await readByBoth();
  const other = await device("stranger", relay.url);
  await other.createGroup();
  await other.pushToRelay("foreign");
  await other.follow();
  await other.texts(1);
  const [{ blobId }] = await other.entries();
  const { cursor, blobId: gone } = (await a.entries()).at(-2);
  // The other group's log is the shorter one.
  const [longer, shorter] = ["DESC", "ASC"].map((order) => `(SELECT group_id FROM groups ORDER BY head ${order} LIMIT 1)`);
  await tamper(
    relay,
    `UPDATE entries SET (blob_id, envelope) =
      (SELECT blob_id, envelope FROM entries WHERE group_id = ${shorter} ORDER BY cursor DESC LIMIT 1)
      WHERE group_id = ${longer} AND cursor = ${cursor}`,
  );
  await listen(b, "integrity");
  const found = [
    { kind: "corrupt", evidence: { cursor, blobId } },
    { kind: "lost", evidence: { cursor, blobId: gone } },
  ];
  assert.deepEqual((await verify(b)).findings, found);
  assert.deepEqual((await heard(b)).map(([, finding]) => finding), found);
  const [healed] = await repair(b);
  assert.deepEqual([healed.compared, healed.putBack, healed.hasEverything], [true, 1, true]);
  for (const one of [b, a]) {
    await one.until(() => client.status.group.relays[0].settled);
    assert.deepEqual((await verify(one)).findings, []);
  }
  const c = await device("tablet", relay.url);
  await pair(b, c);
  await c.follow();
  assert.deepEqual((await c.texts(2)).sort(), ["one", "two"]);
});

scenario("a_proto_02: swapped rows are told to the device that reads them, and are history after a repair", async () => {
  const { relay, a, b } = await readByBoth();
  await listen(b, "integrity");
  const newest = (await a.entries()).at(-1).cursor;
  // Whoever comes first puts the log right by itself.
  await a.page.evaluate(() => client.close());
  await tamper(
    relay,
    `UPDATE entries SET cursor = -1 WHERE cursor = ${newest}`,
    `UPDATE entries SET cursor = ${newest} WHERE cursor = ${newest - 1}`,
    `UPDATE entries SET cursor = ${newest - 1} WHERE cursor = -1`,
  );
  // Another entry stands where this device has read to: it finds that without being asked.
  await b.page.evaluate(() => dispatchEvent(new Event("online")));
  await b.until(() => client.status.group.integrity.length > 0);
  const found = await integrity(b);
  assert.ok(kindsOf(found).includes("rolled_back"), JSON.stringify(found));
  assert.deepEqual((await heard(b)).map(([, finding]) => finding), found);
  assert.deepEqual((await b.texts(2)).slice(0, 2), ["one", "two"], "what it has stays as it was");
  const [healed] = await repair(b);
  assert.equal(healed.hasEverything, true);
  await a.reload();
  for (const one of [b, a]) {
    await verify(one);
    assert.deepEqual((await verify(one)).findings, []);
    assert.deepEqual(await integrity(one), []);
  }
});

scenario("an entry spoiled in this browser's own database is found by verify, although every relay has it whole", async () => {
  const { a, b } = await readByBoth();
  const [, { cursor }] = await b.entries();
  const spoiled = await b.page.evaluate(async () => {
    /** The rows that hold envelopes begin with this. */
    const MIRROR = 3;
    const settled = (request) => new Promise((resolve, reject) => {
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
    const database = await settled(indexedDB.open("0k-sync/default"));
    const rows = database.transaction("rows", "readwrite").objectStore("rows");
    const keys = (await settled(rows.getAllKeys())).filter((key) => new Uint8Array(key)[0] === MIRROR);
    const value = new Uint8Array(await settled(rows.get(keys.at(-1)))).slice();
    value[value.length - 1] ^= 1;
    await settled(rows.put(value, keys.at(-1)));
    database.close();
    return keys.length;
  });
  assert.ok(spoiled > 0);
  const { findings, relays } = await verify(b);
  assert.deepEqual(findings.map(({ kind, evidence }) => [kind, evidence.cursor]), [["corrupt", cursor]]);
  assert.deepEqual(relays.map(({ compared }) => compared), [true]);
  assert.deepEqual((await verify(a)).findings, []);
});

scenario("a relay that is away is named, and what is here is checked; once it is back, it is repaired without another call", async () => {
  const { relay, a } = await readByBoth();
  await relay.stop();
  editDatabase(relay.dataDir, FLIP_A_BIT);
  const outcome = await a.page.evaluate(async () => {
    const { relays, ...rest } = await client.verify();
    const repaired = await client.repair();
    const { ZerokError } = await import("/client/index.js");
    const plain = (relay) => ({ ...relay, problem: relay.problem instanceof ZerokError && relay.problem.code });
    return { ...rest, compared: relays.map(plain), repaired: repaired.map(plain) };
  });
  const { url } = relay;
  const away = { url, compared: false, problem: "unreachable" };
  assert.deepEqual(outcome.compared, [away]);
  assert.deepEqual(outcome.repaired, [{ ...away, putBack: 0, hasEverything: false }]);
  assert.ok(outcome.entries >= 4);
  assert.deepEqual(outcome.findings, []);

  await relay.start();
  await a.page.evaluate(() => dispatchEvent(new Event("online")));
  await a.until(() => client.status.group.relays[0].putBack === 1 && client.status.group.relays[0].hasEverything);
  assert.deepEqual((await verify(a)).findings, []);
});

scenario("verify and repair end where they can find nothing: revoked, at another relay's key, given up, closed", async () => {
  const calls = ["verify", "repair"];
  const { relay, a, b } = await readByBoth();
  for (const call of calls) {
    const ended = await a.page.evaluate(async (call) => {
      const codeOf = (promise) => promise.then(() => "done", ({ name, code }) => `${name} ${code}`);
      const [before, under] = [new AbortController(), new AbortController()];
      before.abort();
      const codes = [await codeOf(client[call]({ signal: before.signal }))];
      const waiting = codeOf(client[call]({ signal: under.signal }));
      under.abort();
      return [...codes, await waiting];
    }, call);
    assert.deepEqual(ended, ["ZerokError cancelled", "ZerokError cancelled"], call);
  }
  assert.equal(await attempt(a, "revoke", "phone"), undefined);
  await b.until(() => client.status.group.problem?.code === "revoked");
  for (const call of calls) assert.equal(await attempt(b, call), "revoked", call);

  await relay.stop();
  for (const file of readdirSync(relay.dataDir).filter((name) => /key/.test(name))) rmSync(join(relay.dataDir, file));
  await relay.start();
  for (const call of calls) assert.equal(await attempt(a, call), "relay_key_changed", call);
  const closed = await a.page.evaluate(async () => {
    const waiting = client.verify().catch(({ code }) => code);
    await client.close();
    return [await waiting, await client.repair().catch(({ code }) => code)];
  });
  assert.deepEqual(closed, ["closed", "closed"]);
});

scenario("b_member: a device that the relay put on its list is told with its key and the relay, and the next rotation drops it", async () => {
  const { relay, a } = await readByBoth();
  await listen(a, "unknownDevice");
  const stranger = "42".repeat(32);
  await tamper(relay, `INSERT INTO devices SELECT group_id, x'${stranger}', x'', 0, 0 FROM groups`);
  await a.page.evaluate(() => dispatchEvent(new Event("online")));
  await a.until(() => heard.length > 0);
  assert.deepEqual(await heard(a), [["unknownDevice", { relay: relay.url, noiseKey: stranger }]]);
  const { unknownAtRelay, members, integrity: findings } = (await a.status()).group;
  assert.deepEqual([unknownAtRelay, members.length, findings], [1, 2, []]);
  assert.equal(await attempt(a, "rotate"), undefined);
  await relay.stop();
  assert.equal(editDatabase(relay.dataDir, `DELETE FROM devices WHERE noise_key = x'${stranger}'`), 0, "it is off the list");
});

scenario("a group that another device took over first is founded anew without it, and who was shut out as well gets back in", async () => {
  const [a, b] = await pairOfDevices();
  const stolen = await device("tablet");
  await pair(a, stolen);
  for (const one of [a, b, stolen]) await one.until(() => client.members.length === 3);
  await a.pushToRelay("before");
  await b.follow();
  await b.texts(1);
  assert.equal(await attempt(a, "refound", ["tablet"]), "not_needed");
  // Who is there reads that a member removes another one, and holds to that.
  await b.page.evaluate(() => client.close());
  for (const name of ["laptop", "phone"]) assert.equal(await attempt(stolen, "revoke", name), undefined);
  await b.reload();
  await b.follow();
  for (const one of [a, b]) await one.until(() => client.status.group.problem?.code === "revoked");

  assert.equal(await attempt(a, "refound", ["fridge"]), "no_such_device");
  assert.equal(await attempt(a, "refound", ["tablet", "laptop"]), "own_device");
  const { rotations } = (await a.status()).group;
  assert.equal(await attempt(a, "refound", ["tablet"]), undefined);
  await a.until(() => client.status.group.connection === "live");
  const { members, rotations: since, problem } = (await a.status()).group;
  assert.deepEqual(members.map(({ name }) => name).sort(), ["laptop", "phone"]);
  assert.deepEqual([since, problem], [rotations + 1, undefined]);
  await b.page.evaluate(() => dispatchEvent(new Event("online")));
  await b.until(() => client.status.group.connection === "live" && client.members.length === 2);
  await a.pushToRelay("after");
  assert.deepEqual(await b.texts(2), ["before", "after"]);
  await stolen.follow();
  await stolen.pushToRelay("its own");
  assert.deepEqual(await stolen.texts(2), ["before", "its own"]);
  for (const one of [a, b]) assert.deepEqual(await integrity(one), []);
});
