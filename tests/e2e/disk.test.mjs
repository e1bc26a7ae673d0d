// The search for plaintext finds what is there: otherwise its finding nothing would say nothing.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { filesWith, isIn } from "./support/disk.mjs";

const TEXT = "Meet at the old lighthouse";
const raw = Buffer.from(TEXT);

const FORMS = {
  "as it is": raw,
  "in UTF-16": Buffer.from(TEXT, "utf16le"),
  "as hex": Buffer.from(raw.toString("hex")),
  "as base64": Buffer.from(raw.toString("base64")),
  "as base64 in the middle of something": Buffer.from(Buffer.from(`{"text":"${TEXT}"}`).toString("base64")),
  "as base64url behind another byte": Buffer.from(Buffer.from(`x${TEXT}yy`).toString("base64url")),
};

for (const [form, bytes] of Object.entries(FORMS)) {
  test(`a text is found ${form}`, () => {
    const directory = mkdtempSync(join(tmpdir(), "zerok-disk-"));
    try {
      writeFileSync(join(directory, "log"), Buffer.concat([Buffer.alloc(100, 7), bytes, Buffer.alloc(100, 7)]));
      assert.equal(filesWith(directory, TEXT).length > 0, true);
      assert.deepEqual(filesWith(directory, "something else entirely"), []);
      assert.equal(isIn(bytes, TEXT), true);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
}
