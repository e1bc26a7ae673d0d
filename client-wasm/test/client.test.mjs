// The package in real Chromium against the real relay: what an app builds on.

import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { openDevice, pair } from "./support/device.mjs";
import { startRelay } from "./support/relay.mjs";
import { attempt, useRig } from "./support/rig.mjs";

const rig = useRig();
const { scenario, newCable, device, pairOfDevices } = rig;

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

for (const kind of ["link", "code"]) {
scenario(`pairing by ${kind}: the digits typed let the joiner in, each side hears who the other is, and both list each other`, async () => {
  const [a, b] = await Promise.all([device("laptop"), device("phone")]);
  await a.createGroup();
  const { text, joined, invitation } = await pair(a, b, kind);
  assert.match(joined.digits, /^\d\d$/);
  assert.deepEqual(invitation.seen, [{ name: "phone", entries: 0, members: ["laptop"] }]);
  assert.deepEqual(joined.group, { inviter: "laptop", relay: rig.relay.url, members: ["laptop"] });
  assert.equal(invitation.outcome.name, "phone");
  if (kind === "link") assert.ok(text.startsWith(`${rig.relay.url}/#`));
  else assert.match(text, /^[0-9A-Z]{4}-[0-9A-Z]{4}$/);
  const names = async (one) => (await one.status()).group.members.map(({ name }) => name).sort();
  for (const one of [a, b]) {
    await one.until(() => client.status.group.members.length === 2);
    assert.deepEqual(await names(one), ["laptop", "phone"]);
  }
});
}

scenario("wrong digits end it on both sides; text that is no answer costs nothing", async () => {
  const [a, b] = await Promise.all([device("laptop"), device("phone")]);
  await a.createGroup();
  const code = await a.invite("code");
  const joining = b.join(code);
  const digits = await b.digits();
  await a.answer("what?");
  await a.answer(digits === "00" ? "01" : "00");
  assert.equal((await joining).code, "wrong_digits");
  const { outcome, seen } = await a.invitationEnd();
  assert.equal(outcome, "wrong_digits");
  assert.equal(seen.length, 2, "asked again");
  assert.equal((await b.status()).state, "empty");
  assert.equal((await b.join(code)).code, "invite_gone");
});

scenario("the joining person says no, and both sides hear what that means", async () => {
  const [a, b] = await Promise.all([device("laptop"), device("phone")]);
  await a.createGroup();
  const joining = b.join(await a.invite(), false);
  await a.answer(await b.digits());
  assert.equal((await joining).code, "cancelled");
  assert.equal((await a.invitationEnd()).outcome, "refused_by_joiner");
  assert.equal((await b.status()).state, "empty");
});

scenario("a link comes with a QR code, a code without; a typo in a code is found before it is sent", async () => {
  const a = await device("laptop");
  await a.createGroup();
  await a.invite();
  const { size, modules, path } = await a.page.evaluate(() => ({ ...shownQr, modules: [...shownQr.modules] }));
  assert.equal(modules.length, size * size);
  assert.deepEqual(modules.slice(0, 8), [1, 1, 1, 1, 1, 1, 1, 0], "the corner every QR code has");
  assert.equal(path.split("M").length - 1, modules.filter((dark) => dark === 1).length);
  const b = await device("phone");
  assert.equal((await b.join("0000-0001")).code, "invalid_code");
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

scenario("a declined joiner gets nothing, and the link is used up", async () => {
  const [a, b, c] = await Promise.all([device("laptop"), device("stranger"), device("second")]);
  await a.createGroup();
  const link = await a.invite();
  const joining = b.join(link);
  await a.answer(undefined);
  assert.equal((await joining).code, "declined");
  assert.equal((await a.invitationEnd()).outcome, "declined");
  assert.deepEqual(await b.status(), { state: "empty", storage: "indexeddb", group: undefined, stoppedBy: undefined });
  assert.equal((await c.join(link)).code, "invite_gone");
});

scenario("a damaged link is refused before anything is sent", async () => {
  const [a, b] = await Promise.all([device("laptop"), device("phone")]);
  await a.createGroup();
  const link = await a.invite();
  const { code, message } = await b.join(link.slice(0, -3));
  assert.equal(code, "invalid_link");
  assert.match(message, /cut off/);
});

scenario("a cancelled invitation ends on both sides", async () => {
  const [a, b] = await Promise.all([device("laptop"), device("phone")]);
  await a.createGroup();
  const link = await a.page.evaluate(async () => {
    globalThis.canceller = new AbortController();
    const { text, done } = await client.invite({ onJoiner: () => "00", signal: canceller.signal });
    globalThis.cancelled = done.catch((error) => error.code);
    return text;
  });
  assert.equal(await a.page.evaluate(() => (canceller.abort(), cancelled)), "cancelled");
  // Acknowledged behind it: the relay has closed the mailbox by then.
  await a.pushToRelay("behind it");
  assert.equal((await b.join(link)).code, "invite_gone");
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
  const dataDir = mkdtempSync(join(tmpdir(), "zerok-relay-"));
  let own = await startRelay({ dataDir });
  const [a, b] = await pairOfDevices(own.url);
  await b.follow();
  const pushing = a.page.evaluate(async () => {
    for (let at = 0; at < 200; at++) await pushText(String(at));
  });
  await b.texts(20);
  await own.stop("SIGKILL");
  await pushing;
  own = await startRelay({ listen: new URL(own.url).host, dataDir });
  const texts = await b.texts(200);
  assert.deepEqual(texts, Array.from({ length: 200 }, (_, at) => String(at)));
  await own.stop();
  rmSync(dataDir, { recursive: true });
});

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
  assert.equal((await c.status()).group.members.length, 3);
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
  const dataDir = mkdtempSync(join(tmpdir(), "zerok-relay-"));
  let own = await startRelay({ dataDir });
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
  for (const file of readdirSync(dataDir).filter((name) => name.startsWith("relay.db"))) rmSync(join(dataDir, file));
  own = await startRelay({ listen: new URL(own.url).host, dataDir });
  await b.until(() => client.status.group.relays.every(({ hasEverything }) => hasEverything) && client.status.group.relayHead > 0);
  const c = await device("tablet", own.url);
  await pair(b, c);
  assert.deepEqual(await c.page.evaluate(texts), ["all of it", "mine", "four"]);
  await own.stop();
  rmSync(dataDir, { recursive: true });
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

/** How an app hears of who joins and who goes. */
const listen = (one) =>
  one.page.evaluate(() => {
    globalThis.heard = [];
    for (const event of ["member", "removed"]) client.on(event, ({ name }) => heard.push([event, name]));
  });

scenario("d_rev_01: a device that is revoked hears so and keeps what it had; the others hear so and go on", async () => {
  const [a, b] = await pairOfDevices();
  const c = await device("tablet");
  await listen(b);
  await pair(a, c);
  await b.until(() => client.status.group.members.length === 3);
  await c.follow();
  await a.push("before");
  assert.deepEqual(await c.texts(1), ["before"]);

  assert.equal(await attempt(a, "revoke", "fridge"), "no_such_device");
  assert.equal(await attempt(a, "revoke", "laptop"), "own_device");
  const gone = (await c.status()).group.device;
  assert.equal(await attempt(a, "revoke", gone.slice(0, 12)), undefined);
  const { members, rotating, granted, unknownAtRelay } = (await a.status()).group;
  assert.deepEqual(members.map(({ name, leaving }) => [name, leaving]).sort(), [["laptop", false], ["phone", false]]);
  assert.ok(members.every(({ device, joinedAt }) => device !== gone && joinedAt > 1_600_000_000_000));
  assert.deepEqual([rotating, granted, unknownAtRelay], [false, [], 0]);

  await c.until(() => client.status.group.problem?.code === "revoked");
  await c.push("too late");
  await b.follow();
  await a.push("after");
  assert.deepEqual(await b.texts(2), ["before", "after"]);
  assert.deepEqual(await b.page.evaluate(() => heard), [["member", "tablet"], ["removed", "tablet"]]);
  assert.equal(await attempt(c, "rotate"), "revoked");
  await c.reload();
  await c.follow();
  assert.deepEqual(await c.texts(1), ["before"], "what it had; what it pushed since is no entry of the group");
  assert.deepEqual((await b.status()).group.integrity, []);
});

scenario("keys are changed, names too, and who leaves is out for good", async () => {
  const [a, b] = await pairOfDevices();
  for (const one of [a, b]) await one.until(() => client.members.length === 2);
  assert.equal(await attempt(b, "rename", " "), "invalid_argument");
  assert.equal(await attempt(b, "rename", "pocket"), undefined);
  await a.until(() => client.members.some(({ name }) => name === "pocket"));
  assert.equal(await attempt(a, "rotate"), undefined);
  assert.equal((await a.status()).group.rotations, 1);
  await b.until(() => client.status.group.rotations === 1 && client.status.group.connection === "live");

  await b.pushToRelay("last words");
  assert.equal(await attempt(b, "leave"), undefined);
  assert.equal(await b.page.evaluate(() => client.status.group.problem?.code), "left");
  assert.equal(await b.page.evaluate(() => pushText("more").catch(({ code }) => code)), "left");
  await a.until(() => client.members.length === 1 && client.status.group.rotations === 2);
  await a.follow();
  assert.deepEqual(await a.texts(1), ["last words"]);
  assert.equal(await attempt(a, "leave"), "last_device");
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

scenario("what a device wrote alone comes along when it joins, once and in its order; a join that fails takes nothing", async () => {
  const [a, b] = await Promise.all([device("laptop"), device("phone")]);
  await a.createGroup();
  await b.createGroup();
  await b.pushToRelay("one");
  await b.push("two");
  const bring = (code) =>
    b.page.evaluate(
      (code) =>
        client.join(code, { bringData: true, onDigits: (shown) => (globalThis.digits = shown) }).then(
          () => "joined",
          (error) => error.code,
        ),
      code,
    );
  assert.equal(await bring("0000-0001"), "invalid_code");
  assert.equal((await b.status()).state, "open", "the group before is back");
  const joining = bring(await a.invite());
  await a.answer(await b.digits());
  assert.equal(await joining, "joined");
  await b.push("three");
  await a.follow();
  assert.deepEqual(await a.texts(3), ["one", "two", "three"]);
  await b.reload();
  await a.push("four");
  await b.follow();
  assert.deepEqual(await b.texts(4), ["one", "two", "three", "four"]);
  assert.equal(await bring(await a.invite()), "already_in_group");
});

scenario("d_rec_01: 24 words bring the group back in another browser when this one is gone", async () => {
  const a = await device("laptop");
  await a.createGroup();
  await a.until(() => client.status.group.connection === "live");
  assert.equal(await a.page.evaluate(() => client.status.group.needsRecoveryWords), true);
  const draft = await a.page.evaluate(async () => {
    const draft = client.draftRecovery();
    await client.createRecovery(draft.words);
    return draft;
  });
  assert.equal(draft.words.length, 24);
  assert.equal(draft.asked.length, 3);
  assert.ok(draft.html.includes(rig.relay.url) && draft.text.includes(draft.words[0]));
  const { needsRecoveryWords, recovery, members } = (await a.status()).group;
  assert.deepEqual([needsRecoveryWords, recovery], [false, "ready"]);
  assert.deepEqual(members.map(({ paper }) => paper).sort(), [false, true]);
  assert.equal(await attempt(a, "createRecovery", draft.words), "words_used");
  await a.pushToRelay("kept");
  assert.equal(await attempt(a, "rotate"), undefined);
  await a.page.context().close();

  const b = await device("phone");
  const wrong = await b.page.evaluate(async (words) => {
    const { checkRecoveryWords } = await import("/client/index.js");
    const typed = words.with(6, "abandom").join(" ");
    return checkRecoveryWords(typed).catch(({ code, message }) => `${code}: ${message}`);
  }, draft.words);
  assert.match(wrong, /^invalid_words: word 7, "abandom".*abandon/);
  assert.equal(await attempt(b, "restore", "abandon ".repeat(23) + "art"), "unknown_words");
  assert.equal((await b.status()).state, "empty");
  await oneMoreLink(b);
  const cutOff = await b.page.evaluate(
    (words) =>
      new Promise((resolve) => {
        client.onStatus(({ state }) => state === "open" && resolve(pushText("too early").catch(({ code }) => code)));
        void client.restore(words);
      }),
    draft.words,
  );
  assert.equal(cutOff, "not_yet", "what may be dropped is not taken");
  await b.reload();
  assert.equal((await b.status()).state, "empty", "a page that goes while the log is read keeps nothing of it");
  for (const closes of [false, true]) {
    const givenUp = await b.page.evaluate(
      async ([words, closes]) => {
        const stopper = new AbortController();
        client.onStatus(({ state }) => {
          if (state === "open") stopper.abort();
          else if (closes && stopper.signal.aborted && state === "joining") void client.close();
        });
        const error = await client.restore(words, { signal: stopper.signal }).catch(({ code }) => code);
        return [error, client.status.state];
      },
      [draft.words, closes],
    );
    assert.deepEqual(givenUp, ["cancelled", closes ? "closed" : "empty"], "also while the log is read");
    await b.reload();
    assert.equal((await b.status()).state, "empty");
  }
  assert.equal(await attempt(b, "restore", draft.words.join("\n").toUpperCase()), undefined);
  await b.follow();
  assert.deepEqual(await b.texts(1), ["kept"]);
  assert.equal(await attempt(b, "revoke", "laptop"), undefined);
  assert.deepEqual((await b.status()).group.integrity, []);
});

scenario("words that another device replaces before they are good are not called good", async () => {
  const [a, b] = await pairOfDevices();
  await a.until(() => client.status.group.connection === "live");
  await oneMoreLink(a);
  const make = () => client.createRecovery(client.draftRecovery().words).then(() => "good", ({ code }) => code);
  const made = a.page.evaluate(make);
  await b.until(() => client.members.some(({ paper }) => paper));
  assert.equal(await b.page.evaluate(make), "good");
  await a.page.evaluate(() => {
    restoreLinks();
    window.dispatchEvent(new Event("online"));
  });
  assert.equal(await made, "words_replaced");
  await a.until(() => client.status.group.recovery === "ready");
});

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

/** Lets the page open one more connection; further ones break until it calls `restoreLinks`. */
const oneMoreLink = ({ page }) =>
  page.evaluate(() => {
    const Whole = WebSocket;
    let opened = 0;
    globalThis.WebSocket = class extends Whole {
      constructor(...where) {
        super(...where);
        if (++opened > 1) this.close();
      }
    };
    globalThis.restoreLinks = () => (globalThis.WebSocket = Whole);
  });

scenario("nothing in these pages failed uncaught", async () => {
  const [a, b] = await pairOfDevices();
  await a.push("x");
  await b.follow();
  await b.texts(1);
  assert.deepEqual([...a.problems, ...b.problems], []);
});
