// What a person sees of the group's other devices: who is there, what they say, and how far a push has
// come; and a copy of a device that is to go on.

import assert from "node:assert/strict";

import { attempt, useRig } from "./support/rig.mjs";

const { scenario, newCable, device, pairOfDevices } = useRig();

/** Pushes a text and notes in `tiers` how far it has come, in the order in which it does. */
const pushNoting = (one, text) =>
  one.page.evaluate(async (text) => {
    globalThis.tiers = [];
    const pushed = await pushText(text);
    for (const tier of ["all-devices", "relay", "local"]) {
      pushed.durable(tier).then(
        () => tiers.push(tier),
        (error) => tiers.push(`${tier}: ${error.code}`),
      );
    }
  }, text);

/** Approves a copy once it has read the log; the refusal, if it is refused for good. */
const approve = async (copy) => {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const refusal = await attempt(copy, "approve");
    if (refusal !== "not_yet" || Date.now() > deadline) return refusal;
  }
};

const tiers = (one) => one.page.evaluate(() => tiers);

scenario("a push is durable here, then at the relay, then on every device: each when it is and not before", async () => {
  const cable = await newCable();
  const [a, b] = await pairOfDevices(cable.url);
  // Whoever was let in counts from its first entry on.
  await a.follow({ after: 0 });
  await b.push("here");
  await a.texts(1);
  await b.page.evaluate(() => client.close());
  cable.pull();
  await a.until(() => client.status.group.connection !== "live");
  await pushNoting(a, "x");
  await a.until(() => tiers.length > 0);
  assert.deepEqual(await tiers(a), ["local"]);
  cable.plugIn();
  await a.page.evaluate(() => dispatchEvent(new Event("online")));
  await a.until(() => tiers.length > 1);
  // Acknowledged behind it, while the other device is away.
  await a.pushToRelay("y");
  assert.deepEqual(await tiers(a), ["local", "relay"]);
  await b.reload();
  await a.until(() => tiers.length > 2);
  assert.deepEqual(await tiers(a), ["local", "relay", "all-devices"]);
});

scenario("what a device in a group alone pushes is on every device once it is at the relay; a closed client says that it will not tell", async () => {
  const cable = await newCable();
  const a = await device("laptop", cable.url);
  await a.createGroup();
  await pushNoting(a, "x");
  await a.until(() => tiers.length === 3);
  assert.deepEqual((await tiers(a)).sort(), ["all-devices", "local", "relay"]);
  cable.pull();
  await a.until(() => client.status.group.connection !== "live");
  await pushNoting(a, "y");
  await a.until(() => tiers.length === 1);
  await a.page.evaluate(() => client.close());
  await a.until(() => tiers.length === 3);
  assert.deepEqual((await tiers(a)).sort(), ["all-devices: closed", "local", "relay: closed"]);
});

const online = (one) => one.page.evaluate(() => client.onlineDevices.map(({ name }) => name));

scenario("devices see who of the others is there, also when one goes and comes back", async () => {
  const [a, b] = await pairOfDevices();
  await a.until(() => client.onlineDevices.length === 1);
  await b.until(() => client.onlineDevices.length === 1);
  assert.deepEqual([await online(a), await online(b)], [["phone"], ["laptop"]]);
  await b.page.evaluate(() => client.close());
  await a.until(() => client.onlineDevices.length === 0);
  assert.equal((await a.status()).group.members.length, 2, "away, and still a member");
  await b.reload();
  await a.until(() => client.onlineDevices.length === 1);
});

scenario("a whisper reaches who is there, says whose it is, and is stored nowhere", async () => {
  const cable = await newCable();
  const [a, b] = await pairOfDevices(cable.url);
  for (const one of [a, b]) await one.until(() => client.onlineDevices.length === 1);
  await b.page.evaluate(() => {
    globalThis.heard = [];
    client.on("whisper", ({ device, data }) => heard.push([device, new TextDecoder().decode(data)]));
  });
  const whisper = (length) =>
    a.page.evaluate((length) => {
      try {
        client.whisper(new TextEncoder().encode("t".repeat(length)));
        return "said";
      } catch (error) {
        return error.code;
      }
    }, length);
  const before = (await b.status()).group;
  assert.equal(await whisper(1_025), "too_large");
  assert.equal(await whisper(6), "said");
  await b.until(() => heard.length > 0);
  const own = (await a.status()).group.device;
  assert.deepEqual(await b.page.evaluate(() => heard), [[own, "tttttt"]]);
  const { position, relayHead } = (await b.status()).group;
  assert.deepEqual([position, relayHead], [before.position, before.relayHead]);

  const answers = await a.page.evaluate(() =>
    Array.from({ length: 20 }, () => {
      try {
        return client.whisper(new Uint8Array([1]));
      } catch (error) {
        return error.code;
      }
    }),
  );
  assert.equal(answers.at(-1), "too_often");
  assert.ok(answers.filter((answer) => answer === undefined).length <= 10);
  cable.pull();
  await a.until(() => client.status.group.connection !== "live");
  assert.equal(await whisper(6), "not_connected");
});

scenario("the group's only device, restored from an older copy, waits for approval and then goes on behind its own end", async () => {
  const a = await device("laptop");
  await a.createGroup();
  assert.equal(await attempt(a, "approve"), "nothing_to_approve");
  await a.pushToRelay("one");
  const file = await a.page.evaluate(async () => {
    const copy = await client.export({ passphrase: "correct horse", identity: true });
    return [...new Uint8Array(await copy.arrayBuffer())];
  });
  await a.pushToRelay("two");
  await a.page.context().close();

  const copy = await device("laptop");
  await copy.page.evaluate((file) => client.import(new Blob([new Uint8Array(file)]), "correct horse"), file);
  await copy.push("three");
  await copy.until(() => client.status.group.problem?.code === "needs_approval");
  assert.equal((await copy.status()).group.outboxCount, 1, "it does not push");
  assert.equal(await approve(copy), undefined);
  await copy.until(() => client.status.group.outboxCount === 0 && client.status.group.problem === undefined);
  await copy.follow();
  assert.deepEqual(await copy.texts(3), ["one", "two", "three"]);
  assert.equal(await attempt(copy, "approve"), "nothing_to_approve");
  assert.deepEqual((await copy.status()).group.integrity, []);
});

scenario("a copy is not approved where another device can let it in", async () => {
  const [a, b] = await pairOfDevices();
  const file = await b.page.evaluate(async () => {
    const copy = await client.export({ passphrase: "correct horse", identity: true });
    return [...new Uint8Array(await copy.arrayBuffer())];
  });
  await b.pushToRelay("one");
  await b.page.context().close();
  const copy = await device("phone");
  await copy.page.evaluate((file) => client.import(new Blob([new Uint8Array(file)]), "correct horse"), file);
  await copy.until(() => client.status.group.problem?.code === "needs_approval");
  assert.equal(await approve(copy), "not_alone");
  await a.follow();
  assert.deepEqual(await a.texts(1), ["one"]);
});
