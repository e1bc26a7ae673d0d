// The words in what somebody typed, where they stand.

/** Numbers, dots and frames of a sheet are no words. */
const LETTER = /\p{L}/u;

/** The text with its word of this number (from 1) replaced. */
export function replaceWord(text: string, number: number, word: string): string {
  let found = 0;
  return text.replace(/[^\s,]+/g, (token) => (LETTER.test(token) && ++found === number ? word : token));
}

/** Whether the last word is still being typed. */
export function isUnfinished(text: string): boolean {
  return /\p{L}$/u.test(text);
}
