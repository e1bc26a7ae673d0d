import { callCore } from "./error.js";
import { init } from "./init.js";
import { checkWords } from "./zerok_sync_wasm.js";

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
