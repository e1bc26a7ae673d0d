// Making recovery words: shown once, to be written down or printed; good only when three of them
// were typed back.

import { type Client, type RecoveryDraft, typedRecoveryWords } from "@0k-sync/client";

import { type Dialog, openDialog } from "../dialog.ts";
import { announce, button, el, sentence } from "../dom.ts";
import { attempt, RESTORE } from "./welcome.ts";
import { UNSEEN } from "./words-field.ts";

/** What says that there are words. */
export const WORDS_ON_PAPER = "There are recovery words on paper";

/** Opens the dialog and sees the words through. Until they were typed back nothing has happened. */
export function makeRecoveryWords(client: Client): void {
  const dialog = openDialog("Recovery words");
  const group = client.status.group;
  // Nobody writes words down that cannot be made good just now.
  if (group === undefined || group.connection !== "live" || !group.caughtUp) {
    dialog.leaveBy("Close");
    dialog.show(el("p", {}, "The relay has to know of the words, and cannot be reached just now. Try again when this page says “Live”."));
    return;
  }
  showWords(client, dialog, group.recovery === "ready");
}

function showWords(client: Client, dialog: Dialog, replacesOlder: boolean): void {
  const draft = client.draftRecovery();
  const sheet = printedSheet(draft);
  document.body.append(sheet);
  dialog.closed.addEventListener("abort", () => sheet.remove());

  const list = el(
    "ol",
    { class: "words shown notranslate", translate: "no", "aria-label": "Recovery words", tabindex: "-1" },
    ...draft.words.map((word) => el("li", {}, word)),
  );
  const written = button("I have them on paper", "primary", () => {
    sheet.remove();
    askForWords(client, dialog, draft);
  });
  const print = button("Print the sheet", "plain", () => window.print());
  dialog.show(
    el(
      "p",
      {},
      "These 24 words bring your notes back when every device is lost. Write them down in this order, or print them: ",
      el("strong", {}, "they are not shown again"),
      ", and whoever has them has everything in the group.",
    ),
    ...(replacesOlder ? [el("p", {}, "The words that were made before are void as soon as these are good.")] : []),
    list,
    el("div", { class: "row" }, written, print),
    el("p", { class: "quiet" }, "The printed sheet also names the relay and its key, which a restore asks for."),
  );
  // Not a button: whoever presses Enter once too often must not miss the words.
  list.focus({ preventScroll: true });
  // What is not printed is hidden meanwhile, and loses the focus.
  window.addEventListener("afterprint", () => print.focus(), { signal: dialog.closed });
}

/**
 * What is printed, and nothing else of the page: the core's own sheet, with the page's styles. A
 * browser that translates pages sends them to a service, and must leave the words alone.
 */
function printedSheet({ html }: RecoveryDraft): HTMLElement {
  const page = new DOMParser().parseFromString(html, "text/html");
  return el("div", { class: "sheet notranslate", translate: "no" }, ...page.body.children);
}

function askForWords(client: Client, dialog: Dialog, { asked, words }: RecoveryDraft): void {
  const fields = asked.map((number) => {
    const id = `asked-${number}`;
    const input = el("input", { id, type: "text", ...UNSEEN });
    return { number, input, element: el("div", { class: "field" }, el("label", { for: id }, `Word ${number}`), input) };
  });
  const problem = el("p", { class: "problem", role: "alert" });
  const go = el("button", { type: "submit", class: "primary" }, "Make the words good");
  const form = el("form", { class: "stack" }, ...fields.map(({ element }) => element), problem, go);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void attempt([go], problem, async () => {
      for (const { number, input } of fields) {
        const [typed, ...more] = await typedRecoveryWords(input.value);
        if (typed?.word !== undefined && typed.word === words[number - 1] && more.length === 0) continue;
        input.focus();
        input.select();
        throw new Error(`That is not word ${number}: look at the paper`);
      }
      await enrol(client, dialog, words);
    });
  });
  dialog.show(el("p", {}, "To see that they are on paper: type these three from it."), form);
  fields[0]?.input.focus();
}

async function enrol(client: Client, dialog: Dialog, words: readonly string[]): Promise<void> {
  dialog.leaveBy("Close");
  dialog.tell("Making the words good … If the relay is lost meanwhile, this goes on by itself when it is back.");
  try {
    await client.createRecovery(words);
    dialog.tell(
      el("strong", {}, "The words are good."),
      ` With them and the relay's address your notes come back in any browser: choose “${RESTORE}” there. `,
      "Keep the sheet where you keep papers that matter, and nowhere online.",
    );
  } catch (error) {
    // What stopped the page's client leaves the wish stored, and older words are void once it is done.
    const advice =
      client.status.state === "open"
        ? "These words are not good: throw them away, and make new ones."
        : `Keep the paper: this may go on when the page is opened again. The words are good once it says “${WORDS_ON_PAPER}, made on this device”.`;
    const text = `${sentence(error)} ${advice}`;
    if (dialog.closed.aborted) announce(text);
    else dialog.show(el("p", { class: "problem", role: "alert" }, text));
  }
}
