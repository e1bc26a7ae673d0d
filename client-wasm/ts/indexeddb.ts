import type { Rows } from "./bridge.js";
import { ZerokError } from "./error.js";
import { randomBytes, STORE_KEY_BYTES, type Storage } from "./storage.js";

const VERSION = 1;
/** The core's rows, under binary keys: one of the two, the other has those that it replaced. */
const ROWS = ["rows", "rows-b"] as const;
/** Which of the two is it. */
const CURRENT = "current";
/** What belongs to this driver: the store key and the fence. */
const META = "meta";
const STORE_KEY = "store-key";
const FENCE = "fence";

/** Rows fetched at once while scanning; with blobs of 1 MiB still a bearable number. */
const CHUNK_ROWS_MAX = 64;
/** Before their size is known: two of a catch-up's rows are a page for the app. */
const CHUNK_ROWS_FIRST = 2;

/**
 * Storage in one IndexedDB database.
 *
 * A batch is one `readwrite` transaction with `durability: "strict"`, so a confirmed batch survives
 * a crash of the machine. Each opening writes a fresh *fence*, and each batch checks it first: a
 * page that lost its database to a newer one cannot write into it, even where Web Locks are missing.
 */
export class IndexedDbStorage implements Storage {
  readonly kind = "indexeddb";
  readonly #database: IDBDatabase;
  readonly #fence: string;
  storedKey: Uint8Array;
  /** Index into `ROWS`. */
  #current: 0 | 1;
  #replace = false;

  private constructor(database: IDBDatabase, fence: string, { storedKey, current }: TakenOver) {
    this.#database = database;
    this.#fence = fence;
    this.storedKey = storedKey;
    this.#current = current;
  }

  /**
   * Opens or makes the database. Rejects with the browser's own error if it gives none.
   *
   * @param onLost called when the browser or another page takes the database away
   */
  static async open(name: string, onLost: (error: ZerokError) => void): Promise<IndexedDbStorage> {
    const database = await openDatabase(name);
    const lost = (why: string) => () => {
      database.close();
      onLost(new ZerokError("storage_failed", `this device's storage failed: ${why}; reload the page`));
    };
    database.onversionchange = lost("another page deletes or upgrades the database");
    database.onclose = lost("the browser closed the database");
    try {
      const fence = crypto.getRandomValues(new Uint32Array(4)).join("-");
      return new IndexedDbStorage(database, fence, await takeOver(database, fence));
    } catch (error) {
      database.close();
      throw error;
    }
  }

  async commit(keys: readonly Uint8Array[], values: readonly (Uint8Array | undefined)[]): Promise<void> {
    const replace = this.#replace;
    const into = replace ? this.#other : this.#current;
    await this.#transact((transaction) => {
      const rows = transaction.objectStore(ROWS[into]);
      if (replace) {
        rows.clear();
        transaction.objectStore(META).put(into, CURRENT);
      }
      keys.forEach((key, index) => {
        const value = values[index];
        if (value === undefined) rows.delete(key as BufferSource);
        else rows.put(value, key as BufferSource);
      });
    });
    if (replace) [this.#current, this.#replace] = [into, false];
  }

  replaceNext(replace: boolean): void {
    this.#replace = replace;
  }

  get #other(): 0 | 1 {
    return this.#current === 0 ? 1 : 0;
  }

  async replaceKey(storedKey: Uint8Array): Promise<void> {
    await this.#transact((transaction) => void transaction.objectStore(META).put(storedKey, STORE_KEY));
    this.storedKey = storedKey;
  }

  /** One durable transaction of the page that has the database. */
  #transact(queue: (transaction: IDBTransaction) => void): Promise<void> {
    return transact(this.#database, (transaction) => {
      const fence = transaction.objectStore(META).get(FENCE);
      // Requests of one transaction run in order, so an abort here undoes what is queued behind.
      fence.onsuccess = () => {
        if (fence.result !== this.#fence) transaction.abort();
      };
      queue(transaction);
      return () => {
        if (fence.readyState === "done" && fence.result !== this.#fence) {
          return "another tab of this browser has taken this group over";
        }
        return undefined;
      };
    });
  }

  async scan(from: Uint8Array, to: Uint8Array, bytesMax: number): Promise<Rows> {
    const keys: Uint8Array[] = [];
    const values: Uint8Array[] = [];
    await this.#walk(this.#current, from, to, bytesMax, (found) => {
      keys.push(...found.keys);
      values.push(...found.values);
    });
    return { keys, values };
  }

  async scanFormer(from: Uint8Array, to: Uint8Array, bytesMax: number): Promise<Rows> {
    const found: Rows = { keys: [], values: [] };
    await this.#walk(this.#other, from, to, bytesMax, ({ keys, values }) => {
      found.keys.push(...keys);
      found.values.push(...values);
    });
    return found;
  }

  visit(from: Uint8Array, to: Uint8Array, visit: (rows: Rows) => void): Promise<void> {
    return this.#walk(this.#current, from, to, Infinity, visit);
  }

  async clear(): Promise<void> {
    await this.#transact((transaction) => void transaction.objectStore(ROWS[this.#current]).clear());
  }

  /** Reads in one transaction, which ends when nothing is asked of it: `visit` must not wait. */
  async #walk(
    store: 0 | 1,
    from: Uint8Array,
    to: Uint8Array,
    bytesMax: number,
    visit: (rows: Rows) => void,
  ): Promise<void> {
    let bytes = 0;
    let count = 0;
    let range = IDBKeyRange.bound(from, to, false, true);
    let chunk = CHUNK_ROWS_FIRST;
    try {
      const rows = this.#database.transaction(ROWS[store], "readonly").objectStore(ROWS[store]);
      while (bytes < bytesMax) {
        const found: { keys: Uint8Array[]; values: Uint8Array[] } = { keys: [], values: [] };
        const [chunkKeys, chunkValues] = await Promise.all([
          answer<IDBValidKey[]>(rows.getAllKeys(range, chunk)),
          answer<Uint8Array[]>(rows.getAll(range, chunk)),
        ]);
        for (let at = 0; at < chunkKeys.length && bytes < bytesMax; at++) {
          const value = chunkValues[at];
          if (value === undefined) break;
          found.keys.push(new Uint8Array(chunkKeys[at] as ArrayBuffer));
          found.values.push(value);
          bytes += value.length;
        }
        count += found.keys.length;
        visit(found);
        if (chunkKeys.length < chunk) break;
        range = IDBKeyRange.bound(chunkKeys[chunkKeys.length - 1], to, true, true);
        const average = Math.max(1, bytes / count);
        chunk = Math.min(CHUNK_ROWS_MAX, Math.max(1, Math.ceil((bytesMax - bytes) / average)));
      }
    } catch (error) {
      throw storageError(error);
    }
  }

  close(): void {
    this.#database.onclose = null;
    this.#database.onversionchange = null;
    this.#database.close();
  }
}

function openDatabase(name: string): Promise<IDBDatabase> {
  const request = indexedDB.open(name, VERSION);
  request.onupgradeneeded = () => {
    for (const rows of ROWS) request.result.createObjectStore(rows);
    request.result.createObjectStore(META);
  };
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => {
      const newer = request.error?.name === "VersionError";
      reject(
        newer
          ? new ZerokError("newer_database", "the local database was written by a newer version: update this app")
          : request.error,
      );
    };
  });
}

/** What a database holds besides rows. */
interface TakenOver {
  readonly storedKey: Uint8Array;
  readonly current: 0 | 1;
}

/** Writes the fence, and the store key if the database is new; returns the store key as it is stored. */
async function takeOver(database: IDBDatabase, fence: string): Promise<TakenOver> {
  let current: unknown;
  let storedKey: Uint8Array | undefined;
  await transact(database, (transaction) => {
    const meta = transaction.objectStore(META);
    meta.put(fence, FENCE);
    const which = meta.get(CURRENT);
    which.onsuccess = () => (current = which.result);
    const stored = meta.get(STORE_KEY);
    stored.onsuccess = () => {
      storedKey = stored.result as Uint8Array | undefined;
      if (storedKey === undefined) {
        storedKey = randomBytes(STORE_KEY_BYTES);
        meta.put(storedKey, STORE_KEY);
      }
    };
    return () => undefined;
  });
  // Its form is for the core to judge.
  if (!(storedKey instanceof Uint8Array)) {
    throw new ZerokError("corrupt", "the local database is damaged (store key): join again under another database name");
  }
  return { storedKey, current: current === 1 ? 1 : 0 };
}

/**
 * Runs one durable transaction. `queue` adds the requests and returns a function that, after an
 * abort of our own, says why.
 */
function transact(
  database: IDBDatabase,
  queue: (transaction: IDBTransaction) => () => string | undefined,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let transaction: IDBTransaction | undefined;
    try {
      transaction = database.transaction([...ROWS, META], "readwrite", { durability: "strict" });
      const whyAborted = queue(transaction);
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(storageError(transaction?.error, whyAborted()));
    } catch (error) {
      // A closed database, or a row that the browser cannot take. What was queued before that row
      // would be committed without it.
      transaction?.abort();
      reject(storageError(error));
    }
  });
}

function answer<T>(request: IDBRequest): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result as T);
    request.onerror = () => reject(request.error);
  });
}

/** What the browser said, as this package says it. */
export function storageError(error: unknown, why?: string): ZerokError {
  if (error instanceof ZerokError) return error;
  const name = error instanceof Error || error instanceof DOMException ? error.name : "";
  const detail = why ?? (error instanceof Error || error instanceof DOMException ? error.message || name : String(error));
  if (name === "QuotaExceededError") {
    return new ZerokError("storage_full", "this device's storage is full: free some space, then reload the page");
  }
  return new ZerokError("storage_failed", `this device's storage failed: ${detail}`);
}
