// Entries that nobody has any more: what is missing is shown, and what stands behind it comes once a
// person gives it up.

import assert from "node:assert/strict";

import { editDatabase } from "./support/database.mjs";
import { pair } from "./support/device.mjs";
import { useRig } from "./support/rig.mjs";

const { scenario, ownRelay, device, pairOfDevices } = useRig();

/** Collects what a device is told of entries that were given up. */
const listen = (one) =>
  one.page.evaluate(() => {
    globalThis.givenUp = [];
    client.on("givenUp", (range) => givenUp.push(range));
  });

/** What it was told, once it was told something. */
async function heard(one) {
  await one.until(() => givenUp.length > 0);
  return one.page.evaluate(() => givenUp);
}

scenario("what stands behind an entry that nobody has any more comes to every device once one of them gives that up", async () => {
  const relay = await ownRelay();
  const [author, b] = await pairOfDevices(relay.url);
  const c = await device("tablet", relay.url);
  await pair(author, c);
  await author.pushToRelay("one");
  for (const one of [b, c]) {
    await one.follow();
    assert.deepEqual(await one.texts(1), ["one"]);
    await one.page.evaluate(() => client.close());
  }
  for (const text of ["two", "three"]) await author.pushToRelay(text);
  const lost = (await author.status()).group.device;
  await author.page.context().close();
  await relay.stop();
  assert.equal(editDatabase(relay.dataDir, "DELETE FROM entries WHERE cursor = (SELECT max(cursor) - 1 FROM entries)"), 1);
  await relay.start();

  for (const one of [b, c]) {
    await one.reload();
    await listen(one);
    await one.follow();
    await one.until(() => client.status.group.holes.length > 0);
  }
  const [hole, ...more] = (await b.status()).group.holes;
  assert.deepEqual(more, []);
  assert.deepEqual(hole, { device: lost, fromSeq: hole.toSeq, toSeq: hole.toSeq, waiting: 1 });
  assert.deepEqual((await b.status()).group.integrity.map(({ kind }) => kind), ["lost", "gap"]);
  for (const one of [b, c]) assert.deepEqual(await one.texts(1), ["one"], "it waits");

  assert.deepEqual(await b.page.evaluate(() => client.acceptGaps()), [hole]);
  const { waiting, ...range } = hole;
  for (const one of [b, c]) {
    assert.deepEqual(await one.texts(2), ["one", "three"]);
    assert.deepEqual(await heard(one), [range]);
    assert.deepEqual((await one.status()).group.holes, []);
  }
  assert.deepEqual(await b.page.evaluate(() => client.acceptGaps()), [], "nothing is left to be given up");
});
