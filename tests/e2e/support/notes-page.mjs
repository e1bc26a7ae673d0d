// The demo as a person uses it, in a browser profile of its own.

/** Longest that anything on the page may take on a busy machine, unless a test measures it. */
const STEP_MS_MAX = 15_000;

/** Opens a new browser profile. */
export async function openProfile(browser) {
  const context = await browser.newContext();
  context.setDefaultTimeout(STEP_MS_MAX);
  return new NotesPage(context, await context.newPage());
}

export class NotesPage {
  constructor(context, page) {
    this.context = context;
    this.page = page;
    /** Whatever the page could not handle. */
    this.errors = [];
    page.on("pageerror", (error) => this.errors.push(error.message));
    page.on("console", (message) => {
      // A connection that fails while the cable is pulled is the browser's news, not an error of the page.
      if (message.type() === "error" && !/WebSocket|ERR_|Failed to load resource/.test(message.text())) this.errors.push(message.text());
    });
  }

  async createGroup(url, name) {
    await this.page.goto(url);
    await this.page.getByLabel("device's name").fill(name);
    await this.page.getByRole("button", { name: "Start on this device" }).click();
    await this.live();
  }

  /** Opens the dialog and answers the link in it. */
  async invite() {
    await this.page.getByRole("button", { name: "Add a device" }).click();
    return this.page.getByLabel("Invite link", { exact: true }).inputValue();
  }

  /** Asks for a code instead of the link that is shown; answers it. */
  async inviteByCode() {
    await this.invite();
    await this.page.getByRole("button", { name: "Use a code instead" }).click();
    return this.page.getByLabel("Pairing code").textContent();
  }

  /** Waits until the dialog asks for the digits of this device. */
  async asksAbout(name) {
    await this.page.getByRole("dialog").getByText(`${name} wants to join`).waitFor();
  }

  /** The digits that this page shows while it joins. */
  async digits() {
    const digits = this.page.getByLabel("Two digits to type on the other device");
    await digits.waitFor();
    return digits.textContent();
  }

  /** Types the digits of the device that waits, and sees it in. */
  async letIn(digits) {
    await this.page.getByLabel(/^The two digits that/).fill(digits);
    await this.page.getByRole("button", { name: "Let it in" }).click();
    await this.page.getByRole("dialog").waitFor({ state: "detached" });
  }

  /** Says that it is the right group. */
  async confirm() {
    await this.page.getByRole("button", { name: "Yes, join" }).click();
  }

  /** Types a code on the first page and says yes; answers the digits shown. */
  async joinByCode(url, code, name) {
    await this.page.goto(url);
    await this.page.getByLabel(/invite link or a code/).fill(code);
    await this.page.getByRole("button", { name: "Join" }).click();
    await this.page.getByLabel("device's name").fill(name);
    await this.page.getByRole("button", { name: "Join" }).click();
    return this.digits();
  }

  /** Opens an invite link and says yes; answers the digits shown. */
  async askToJoin(link, name) {
    await this.page.goto(link);
    await this.page.getByLabel("device's name").fill(name);
    await this.page.getByRole("button", { name: "Join" }).click();
    return this.digits();
  }

  async live() {
    await this.page.getByText("Live", { exact: true }).waitFor();
  }

  async offline() {
    await this.page.getByText(/^Offline/).waitFor();
  }

  async add(text) {
    await this.page.getByLabel("New note").fill(text);
    await this.page.getByRole("button", { name: "Add", exact: true }).click();
  }

  async remove(text) {
    await this.page.getByRole("button", { name: `Delete the note “${text}”` }).click();
  }

  async waitFor(text) {
    await this.page.getByText(text, { exact: true }).waitFor();
  }

  /** The notes on the page, newest first. */
  notes() {
    return this.page.locator(".note-text").allTextContents();
  }

  /** Waits until the list holds exactly these, in any order, and the relay has all of them. */
  async settled(expected) {
    const wanted = [...expected].sort();
    await this.page.waitForFunction(
      (texts) => {
        const shown = [...document.querySelectorAll(".note-text")].map(({ textContent }) => textContent).sort();
        return JSON.stringify(shown) === JSON.stringify(texts) && document.querySelector(".unsent") === null;
      },
      wanted,
      { timeout: STEP_MS_MAX },
    ).catch(async () => {
      throw new Error(`expected the notes ${JSON.stringify(wanted)}, the page shows ${JSON.stringify((await this.notes()).sort())}`);
    });
  }

  async reload() {
    await this.page.reload();
    await this.live();
  }
}
