// Who is in the group, and its keys.

import assert from "node:assert/strict";

import { pair } from "./support/device.mjs";
import { attempt, useRig } from "./support/rig.mjs";

const { scenario, device, pairOfDevices } = useRig();

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
