// The field for recovery words: each word is looked at while it is typed, and all of them together
// once there are enough.

import { checkRecoveryWords, type TypedWord, typedRecoveryWords } from "@0k-sync/client";

import { button, el, sentence } from "../dom.ts";
import { isUnfinished, replaceWord } from "../words-text.ts";

/** Words on a sheet. */
const WORDS = 24;

/** Whoever completes, corrects or looks up spelling for a browser must not get what is typed. */
export const UNSEEN = {
  autocomplete: "off",
  autocapitalize: "none",
  autocorrect: "off",
  spellcheck: "false",
  writingsuggestions: "false",
} as const;

export interface WordsField {
  readonly element: HTMLElement;
  /** What was typed, if it is somebody's words; throws what is wrong with it otherwise. */
  readonly value: () => Promise<string>;
}

/** A word that is not in the list. */
type WrongWord = TypedWord & { readonly number: number };

export function wordsField(): WordsField {
  const field = el("textarea", { id: "words", rows: "4", ...UNSEEN, "aria-describedby": "words-state" });
  const state = el("p", { id: "words-state", class: "quiet", role: "status" });
  const wrong = el("ul", { class: "wrong-words notranslate", translate: "no", "aria-label": "Words to look at again", "aria-live": "polite" });
  const items = new Map<string, HTMLElement>();
  const list = el("ol", { class: "words notranslate", translate: "no", "aria-label": "Words so far" });

  const say = (text: string, look: "quiet" | "problem" | "fits") => {
    state.className = look;
    if (state.textContent !== text) state.textContent = text;
  };

  async function look(isTyping: boolean): Promise<void> {
    const text = field.value;
    try {
      const words = await typedRecoveryWords(text);
      const fits = words.length === WORDS && words.every(({ word }) => word !== undefined);
      const complaint = fits ? await checkRecoveryWords(text).then(() => undefined, sentence) : undefined;
      // Something else was typed meanwhile, and looked at.
      if (field.value === text) show(words, complaint, isTyping && isUnfinished(text));
    } catch (error) {
      if (field.value !== text) return;
      list.replaceChildren();
      showWrong([]);
      say(sentence(error), "problem");
    }
  }

  function show(words: readonly TypedWord[], complaint: string | undefined, isTyping: boolean): void {
    const isOpen = (index: number) => isTyping && index === words.length - 1;
    list.replaceChildren(
      ...words.map(({ word, typed }, index) =>
        el("li", { class: word === undefined && (isOpen(index) ? "open" : "unknown") }, word ?? typed),
      ),
    );
    const unknown = words.flatMap((word, index) => (word.word === undefined && !isOpen(index) ? [{ ...word, number: index + 1 }] : []));
    showWrong(unknown);
    if (words.length > WORDS) say(`There are ${WORDS} words on a sheet, and these are more.`, "problem");
    else if (complaint !== undefined) say(complaint, "problem");
    else if (words.length === WORDS && unknown.length === 0 && !words.some(({ word }) => word === undefined)) say(`All ${WORDS} words fit together.`, "fits");
    else say(words.length === 0 ? "" : `${words.length} of ${WORDS} words`, "quiet");
  }

  /** Only what is new or over is touched: a suggestion that somebody is about to take stays where it is. */
  function showWrong(unknown: readonly WrongWord[]): void {
    const wanted = new Map(unknown.map((word) => [`${word.number} ${word.typed}`, word]));
    for (const [key, item] of items) {
      if (wanted.has(key)) continue;
      item.remove();
      items.delete(key);
    }
    [...wanted].forEach(([key, word], index) => {
      const item = items.get(key) ?? unknownWord(word);
      items.set(key, item);
      if (wrong.children[index] !== item) wrong.insertBefore(item, wrong.children[index] ?? null);
    });
  }

  function unknownWord({ number, typed, nearest }: WrongWord): HTMLElement {
    const suggestions = nearest.map((word) => {
      const use = button(word, "plain", () => {
        field.value = replaceWord(field.value, number, word);
        field.focus();
        void look(false);
      });
      use.classList.add("small");
      use.setAttribute("aria-label", `Use “${word}” as word ${number}`);
      return use;
    });
    const lead = suggestions.length === 0 ? "" : " Perhaps:";
    return el("li", {}, el("span", { class: "problem" }, `Word ${number}, “${typed}”, is not in the list.${lead}`), ...suggestions);
  }

  field.addEventListener("input", () => void look(true));
  field.addEventListener("change", () => void look(false));

  const element = el(
    "div",
    { class: "field" },
    el("label", { for: "words" }, `The ${WORDS} words, in their order`),
    field,
    state,
    wrong,
    list,
  );
  const value = async () => {
    await look(false);
    await checkRecoveryWords(field.value);
    return field.value;
  };
  return { element, value };
}
