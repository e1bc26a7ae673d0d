// A group brought back from its 24 words.

import assert from "node:assert/strict";

import { attempt, useRig } from "./support/rig.mjs";

const rig = useRig();
const { scenario, device, pairOfDevices } = rig;

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
