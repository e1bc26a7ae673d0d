// Two devices become one group, by link and by code, with everything that can go wrong on the way.

import assert from "node:assert/strict";

import { pair } from "./support/device.mjs";
import { useRig } from "./support/rig.mjs";

const rig = useRig();
const { scenario, device } = rig;

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
