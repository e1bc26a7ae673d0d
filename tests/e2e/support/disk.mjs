// Looks for a text in files, in the forms in which it could have ended up there.

import { readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";

/** Files below a directory that hold the text: raw, in UTF-16, as hex, or as base64. */
export function filesWith(directory, text) {
  return needles(text).flatMap(({ form, bytes }) =>
    filesBelow(directory)
      .filter((path) => readFileSync(path).includes(bytes))
      .map((path) => `${form} in ${path}`),
  );
}

/** Whether one of those forms stands in some output. */
export function isIn(output, text) {
  return needles(text).some(({ bytes }) => Buffer.from(output).includes(bytes));
}

/** All files below a directory. */
export function filesBelow(directory) {
  return readdirSync(directory, { recursive: true })
    .map((name) => join(directory, name))
    .filter((path) => statSync(path).isFile());
}

function needles(text) {
  const raw = Buffer.from(text, "utf8");
  const base64 = [0, 1, 2].flatMap((shift) => {
    // Base64 of the text at each alignment, without the characters that its neighbours change.
    const encoded = Buffer.concat([Buffer.alloc(shift), raw]).toString("base64");
    const whole = encoded.slice(Math.ceil((shift * 4) / 3), Math.floor(((shift + raw.length) * 8) / 6));
    return [whole, whole.replaceAll("+", "-").replaceAll("/", "_")];
  });
  return [
    { form: "plain text", bytes: raw },
    { form: "UTF-16", bytes: Buffer.from(text, "utf16le") },
    { form: "hex", bytes: Buffer.from(raw.toString("hex")) },
    { form: "hex", bytes: Buffer.from(raw.toString("hex").toUpperCase()) },
    ...base64.map((encoded) => ({ form: "base64", bytes: Buffer.from(encoded) })),
  ];
}
