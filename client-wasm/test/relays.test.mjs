// A group on several relays: one is met and filled, one is not met, one is taken off the list.

import assert from "node:assert/strict";

import { useRig } from "./support/rig.mjs";

const rig = useRig();
const { scenario, ownRelay, device } = rig;

scenario("a relay that is added gets the log and is compared like the first; one that is not met is refused and forgotten", async () => {
  const a = await device("laptop");
  await a.createGroup();
  await a.pushToRelay("one");
  const second = await ownRelay();
  const add = (url, options) =>
    a.page.evaluate(
      async ([url, options]) => {
        const { ZerokError } = await import("/client/index.js");
        return client.addRelay(url, options).then(
          () => "added",
          (error) => (error instanceof ZerokError ? error.code : `no ZerokError: ${JSON.stringify(error)}`),
        );
      },
      [url, options],
    );
  assert.equal(await add(second.url), "added");
  await a.until(() => client.status.group.relays.length === 2 && client.status.group.relays.every(({ hasEverything }) => hasEverything));
  const compared = async () => (await a.page.evaluate(() => client.verify())).relays.map(({ url, compared, problem }) => [url, compared, problem]);
  assert.deepEqual(await compared(), [[rig.relay.url, true, undefined], [second.url, true, undefined]]);

  await second.stop();
  const outcome = await a.page.evaluate(async () => {
    const relays = await client.repair();
    return relays.map(({ url, compared, putBack, hasEverything, problem }) => [url, compared, putBack, hasEverything, problem?.code]);
  });
  assert.deepEqual(outcome, [
    [rig.relay.url, true, 0, true, undefined],
    [second.url, false, 0, false, "unreachable"],
  ]);
  const { url } = second;
  assert.equal(await a.page.evaluate((url) => client.removeRelay(url).then(() => client.status.group.relays.length), url), 1);
  assert.equal(await add(url, { timeoutMs: 2_000 }), "unreachable");
  assert.deepEqual((await a.status()).group.relays.map(({ url }) => url), [rig.relay.url]);
});
