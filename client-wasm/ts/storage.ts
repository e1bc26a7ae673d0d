import type { Rows } from "./bridge.js";
import type { StorageKind } from "./status.js";

/** Length of the key under which the core seals its local rows. */
export const STORE_KEY_BYTES = 32;

/**
 * The small transactional key-value store the core needs: byte keys in bytewise order, and batches
 * that become durable together or not at all. Rejects with `ZerokError` `storage_full` or
 * `storage_failed`.
 */
export interface Storage {
  readonly kind: StorageKind;
  /** The key under which the core seals local rows, bare or locked; made when the database is. */
  readonly storedKey: Uint8Array;
  /** Puts the same key there in another form. */
  replaceKey(storedKey: Uint8Array): Promise<void>;
  /** One atomic, durable batch; an `undefined` value removes its key. In the order of the calls. */
  commit(keys: readonly Uint8Array[], values: readonly (Uint8Array | undefined)[]): Promise<void>;
  /** Rows of `from <= key < to` in key order, up to and with the first that reaches `bytesMax`. */
  scan(from: Uint8Array, to: Uint8Array, bytesMax: number): Promise<Rows>;
  /** Visits every row of `from <= key < to` in key order, as they are at one moment. */
  visit(from: Uint8Array, to: Uint8Array, visit: (rows: Rows) => void): Promise<void>;
  /** Whether the next commit takes the place of all rows there are; those are then the former ones. */
  replaceNext(replace: boolean): void;
  /** As `scan`, of the rows that the last such commit replaced. */
  scanFormer(from: Uint8Array, to: Uint8Array, bytesMax: number): Promise<Rows>;
  /** Removes every row. */
  clear(): Promise<void>;
  /** Gives the database up. */
  close(): void;
}

/** Fresh bytes from the operating system. */
export function randomBytes(count: number): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(count));
}
