import { callCore } from "./error.js";
import { init } from "./init.js";
import { checkWords, typedWords } from "./zerok_sync_wasm.js";

/** Recovery words that were just made and are not good yet: see `Client.createRecovery`. */
export interface RecoveryDraft {
  /** The 24 words, to be shown once. */
  readonly words: readonly string[];
  /** Numbers, from 1, of the three words to ask for before `createRecovery`. */
  readonly asked: readonly number[];
  /** A sheet to print, with words and relays, as plain text. */
  readonly text: string;
  /** The same as a page of HTML that loads nothing. */
  readonly html: string;
}

/** A word of a text that somebody is typing. */
export interface TypedWord {
  /** In lower case, without what stands around it. */
  readonly typed: string;
  /** The word of the list that it names, in full: four letters are enough. */
  readonly word: string | undefined;
  /** If it names none: what it may have been, the likeliest first. */
  readonly nearest: readonly string[];
}

/**
 * The words in a text so far, for showing which are good while a person types: at most one more than
 * a sheet has. Whether 24 of them belong together says `checkRecoveryWords`. Rejects with
 * `invalid_words` if the text is too long to be a sheet.
 *
 * @example
 * const words = await typedRecoveryWords(input.value);
 * show(words.map(({ typed, word }, index) => `${index + 1}. ${word ?? `${typed}?`}`).join(" "));
 */
export async function typedRecoveryWords(text: string): Promise<readonly TypedWord[]> {
  await init();
  return callCore(() => typedWords(text)) as readonly TypedWord[];
}

/**
 * Looks whether a text can be recovery words, before anything is sent: in any case and spacing, four
 * letters of each are enough. Rejects with `invalid_words`, whose message names the word that is wrong
 * where it can.
 *
 * @example
 * await checkRecoveryWords(input.value).catch((error) => show(error.message));
 */
export async function checkRecoveryWords(text: string): Promise<void> {
  await init();
  callCore(() => checkWords(text));
}
