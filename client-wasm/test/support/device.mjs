// A device for tests: one browser profile with one page that uses the package as an app would.

/**
 * Opens the package in a page.
 *
 * @param {import("playwright-core").BrowserContext} context the device's profile; see `launchChromium`
 * @param {string} origin where the page comes from: something that serves `makeWebRoot()`
 * @param {string} relay
 * @param {string} name
 */
export async function openDevice(context, origin, relay, name) {
  const page = await context.newPage();
  const problems = [];
  page.on("pageerror", (error) => problems.push(error.message));
  await page.goto(origin);

  /** Loads the package and collects texts in `received`, as an app would after every start. */
  const start = () =>
    page.evaluate(
      async ({ relay, name }) => {
        const { Client } = await import("/client/index.js");
        globalThis.client = await Client.open({ relay, name });
        globalThis.received = [];
        globalThis.follow = async (options) => {
          for await (const entry of client.entries(options)) {
            received.push({ ...entry, text: new TextDecoder().decode(entry.data) });
          }
        };
        globalThis.pushText = async (text) => client.push(new TextEncoder().encode(text));
      },
      { relay, name },
    );
  await start();

  return {
    page,
    /** Uncaught errors of the page. */
    problems,
    createGroup: () => page.evaluate(() => client.createGroup()),
    /** Opens an invitation and answers its text; what the person saw and the outcome are in `invitation`. */
    invite: (kind = "link") =>
      page.evaluate(async (kind) => {
        globalThis.invitation = { seen: [], outcome: undefined };
        const { text, qr, done } = await client.invite({
          kind,
          onJoiner: (joiner) => {
            invitation.seen.push(joiner);
            return new Promise((resolve) => (globalThis.typeDigits = resolve));
          },
        });
        globalThis.shownQr = qr;
        done.then(
          (device) => (invitation.outcome = device),
          (error) => (invitation.outcome = error.code),
        );
        return text;
      }, kind),
    /** Types digits once they are asked for; without any, turns the joiner away. */
    async answer(digits) {
      await page.waitForFunction(() => globalThis.typeDigits !== undefined);
      await page.evaluate((digits) => {
        const type = typeDigits;
        globalThis.typeDigits = undefined;
        type(digits);
      }, digits);
    },
    /** The inviter's side of the last invitation, once it is over. */
    async invitationEnd() {
      await page.waitForFunction(() => invitation.outcome !== undefined);
      return page.evaluate(() => invitation);
    },
    /** Joins; resolves to the digits shown and whose group it is, or to the error's code. */
    join: (invite, confirms = true) =>
      page.evaluate(
        async ([invite, confirms]) => {
          globalThis.digits = undefined;
          let group;
          try {
            await client.join(invite, {
              onDigits: (shown) => (globalThis.digits = shown),
              onConfirm: (offered) => {
                group = offered;
                return confirms;
              },
            });
            return { digits, group };
          } catch (error) {
            return { code: error.code, message: error.message };
          }
        },
        [invite, confirms],
      ),
    /** The digits that the page shows while it joins. */
    async digits() {
      await page.waitForFunction(() => globalThis.digits !== undefined);
      return page.evaluate(() => digits);
    },
    /** Starts collecting entries; by default everything, from the beginning. */
    follow: (options = { after: 0, own: true }) => page.evaluate((options) => void follow(options), options),
    push: (text) => page.evaluate(async (text) => (await pushText(text)).number, text),
    pushToRelay: (text) => page.evaluate(async (text) => (await pushText(text)).atRelay, text),
    status: () => page.evaluate(() => client.status),
    /** Waits until something holds in the page, such as `() => client.status.state === "open"`. */
    until: (predicate) => page.waitForFunction(predicate, undefined, { timeout: 15_000 }),
    /** The texts received, once there are as many. */
    async texts(count) {
      await page.waitForFunction((count) => received.length >= count, count, { timeout: 15_000 });
      return page.evaluate(() => received.map(({ text }) => text));
    },
    entries: () => page.evaluate(() => received.map(({ data, envelope, ...entry }) => ({ ...entry, envelope: [...envelope] }))),
    async reload() {
      await page.reload();
      await start();
    },
  };
}

/** Lets `joiner` into the group of `inviter`, as two people do. */
export async function pair(inviter, joiner, kind = "link") {
  const text = await inviter.invite(kind);
  const joining = joiner.join(text);
  await inviter.answer(await joiner.digits());
  const joined = await joining;
  return { text, joined, invitation: await inviter.invitationEnd() };
}
