import type { Entry } from "./entry.js";
import { callCore } from "./error.js";
import { init } from "./init.js";
import { unpackEntries } from "./packed-entries.js";
import { randomBytes, type Storage } from "./storage.js";
import { CoreEngine, CoreExporter, CoreImporter } from "./zerok_sync_wasm.js";

/** How to write an export file. */
export interface ExportOptions {
  /** What the file is sealed under: at least eight characters. */
  readonly passphrase: string;
  /**
   * Whether the file can become this device again, by `Client.import`; and whoever has it and its
   * passphrase, too. Default `false`: then it only shows its entries, by `readExport`.
   */
  readonly identity?: boolean;
}

/** Bytes of a file that are read at a time. */
const READ_BYTES = 256 * 1024;

/**
 * Seals everything in storage, as it is at one moment. What is sealed already lies with the browser
 * and not in this page's memory.
 *
 * @internal
 */
export async function writeExport(storage: Storage, storeKey: Uint8Array, options: ExportOptions): Promise<Blob> {
  const parts: Blob[] = [];
  const add = (bytes: Uint8Array) => parts.push(new Blob([bytes as BlobPart]));
  const { from, to } = CoreExporter.range();
  const hotEnd = CoreEngine.hotRange().to[0] ?? 0;
  let exporter: CoreExporter | undefined;
  // What an exporter starts with comes first in key order.
  const hot: { keys: Uint8Array[]; values: Uint8Array[] } = { keys: [], values: [] };
  const start = () => {
    const random = randomBytes(CoreExporter.randomBytes());
    const { passphrase, identity = false } = options;
    exporter = callCore(() => CoreExporter.start(storeKey, random, hot, passphrase, identity));
    add(exporter.rows(hot));
    return exporter;
  };
  try {
    let failure: unknown;
    await storage.visit(from, to, (rows) => {
      if (failure !== undefined) return;
      try {
        const rest: { keys: Uint8Array[]; values: Uint8Array[] } = { keys: [], values: [] };
        rows.keys.forEach((key, at) => {
          const into = exporter === undefined && (key[0] ?? 0) < hotEnd ? hot : rest;
          into.keys.push(key);
          into.values.push(rows.values[at] as Uint8Array);
        });
        if (rest.keys.length > 0) add((exporter ?? start()).rows(rest));
      } catch (error) {
        failure = error;
      }
    });
    if (failure !== undefined) throw failure;
    add((exporter ?? start()).finish());
    return new Blob(parts, { type: "application/octet-stream" });
  } finally {
    exporter?.free();
  }
}

/**
 * Reads the entries in an export file, without a group and without a relay. Nothing of a file that
 * is damaged or cut off is shown: it is read to its end once before the first entry comes. Rejects
 * with `wrong_passphrase` or `invalid_export`.
 *
 * @example
 * for await (const entry of readExport(file, passphrase)) show(new TextDecoder().decode(entry.data));
 */
export async function* readExport(file: Blob, passphrase: string): AsyncGenerator<Entry, void> {
  await init();
  for await (const _ of takeEntries(file, passphrase));
  for await (const entries of takeEntries(file, passphrase)) yield* unpackEntries(entries);
}

async function* takeEntries(file: Blob, passphrase: string): AsyncGenerator<Uint8Array, void> {
  yield* taken(file, passphrase, (importer) => importer.entries());
}

/**
 * Puts the device in an export file into an empty storage; its key. Without the last commit, which
 * comes after the file has proved whole, the storage holds no group.
 *
 * @internal
 */
export async function restoreExport(storage: Storage, file: Blob, passphrase: string): Promise<Uint8Array> {
  await storage.clear();
  let last: [Uint8Array, Uint8Array[], Uint8Array[]] | undefined;
  const take = (importer: CoreImporter, ended: boolean) => {
    const batches = importer.batches() as [Uint8Array[], Uint8Array[]][];
    if (ended) last = importer.finish() as typeof last;
    return batches;
  };
  for await (const batches of taken(file, passphrase, take)) {
    for (const [keys, values] of batches) await storage.commit(keys, values);
  }
  const [storeKey, keys, values] = last as [Uint8Array, Uint8Array[], Uint8Array[]];
  await storage.replaceKey(storeKey);
  await storage.commit(keys, values);
  return storeKey;
}

/** Feeds a file to an importer and takes what comes, piece by piece. */
async function* taken<T>(
  file: Blob,
  passphrase: string,
  take: (importer: CoreImporter, ended: boolean) => T,
): AsyncGenerator<T, void> {
  const importer = new CoreImporter(passphrase);
  try {
    for (let at = 0; at < file.size; at += READ_BYTES) {
      const piece = new Uint8Array(await file.slice(at, at + READ_BYTES).arrayBuffer());
      yield callCore(() => {
        importer.feed(piece);
        return take(importer, false);
      });
    }
    yield callCore(() => {
      importer.end();
      return take(importer, true);
    });
  } finally {
    importer.free();
  }
}
