import type { Rows } from "./bridge.js";
import { randomBytes, STORE_KEY_BYTES, type Storage } from "./storage.js";

interface Row {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** Storage for browsers that refuse IndexedDB (some private windows): lost with the page. */
export class MemoryStorage implements Storage {
  readonly kind = "memory";
  storedKey = randomBytes(STORE_KEY_BYTES);
  /** In key order. */
  #rows: Row[] = [];
  #former: Row[] = [];
  #replace = false;

  async commit(keys: readonly Uint8Array[], values: readonly (Uint8Array | undefined)[]): Promise<void> {
    if (this.#replace) [this.#former, this.#rows, this.#replace] = [this.#rows, [], false];
    keys.forEach((key, index) => {
      const value = values[index];
      const at = this.#lowerBound(key);
      const row = this.#rows[at];
      const present = row !== undefined && compareBytes(row.key, key) === 0;
      this.#rows.splice(at, present ? 1 : 0, ...(value === undefined ? [] : [{ key, value }]));
    });
  }

  async replaceKey(storedKey: Uint8Array): Promise<void> {
    this.storedKey = storedKey;
  }

  async scan(from: Uint8Array, to: Uint8Array, bytesMax: number): Promise<Rows> {
    const keys: Uint8Array[] = [];
    const values: Uint8Array[] = [];
    const end = this.#lowerBound(to);
    let bytes = 0;
    for (let at = this.#lowerBound(from); at < end && bytes < bytesMax; at++) {
      const row = this.#rows[at];
      if (row === undefined) break;
      keys.push(row.key);
      values.push(row.value);
      bytes += row.value.length;
    }
    return { keys, values };
  }

  replaceNext(replace: boolean): void {
    this.#replace = replace;
  }

  async scanFormer(from: Uint8Array, to: Uint8Array, bytesMax: number): Promise<Rows> {
    const former = new MemoryStorage();
    former.#rows = this.#former;
    return former.scan(from, to, bytesMax);
  }

  async visit(from: Uint8Array, to: Uint8Array, visit: (rows: Rows) => void): Promise<void> {
    visit(await this.scan(from, to, Infinity));
  }

  async clear(): Promise<void> {
    this.#rows = [];
  }

  close(): void {
    this.#rows = [];
  }

  /** Index of the first row whose key is not below `key`. */
  #lowerBound(key: Uint8Array): number {
    let low = 0;
    let high = this.#rows.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const row = this.#rows[middle];
      if (row !== undefined && compareBytes(row.key, key) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const shorter = Math.min(a.length, b.length);
  for (let at = 0; at < shorter; at++) {
    const difference = (a[at] ?? 0) - (b[at] ?? 0);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}
