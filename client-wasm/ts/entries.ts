import type { KeyRange, Rows } from "./bridge.js";
import type { Entry } from "./entry.js";
import { callCore, type ZerokError } from "./error.js";
import { unpackEntries, unpackEntry } from "./packed-entries.js";

/** Bytes of rows read from storage at a time: the only entries in memory, however slow the app is. */
const PAGE_BYTES_MAX = 256 * 1024;

/** What to read. */
export interface EntriesOptions {
  /**
   * Start behind this position. By default behind the last one marked as processed. What is gone
   * there a snapshot stands for, which comes first.
   */
  readonly after?: number;
  /** Whether to include what this device pushed itself. Default `false`. */
  readonly own?: boolean;
  /** Ends the iteration. */
  readonly signal?: AbortSignal;
}

/** Where entries come from. */
export interface EntrySource {
  /** Rows with entries behind a position. */
  page(after: number, bytesMax: number): Promise<Rows>;
  /** The entries behind a position in one such row, packed, but for those in parts. */
  read(key: Uint8Array, value: Uint8Array, after: number): (Uint8Array | InParts)[];
  /** Any rows. */
  rows(range: KeyRange, bytesMax: number): Promise<Rows>;
  readonly doorbell: Doorbell;
}

/** An entry that lies in several rows; it says which it wants next until it has all. */
export interface InParts {
  readonly position: number;
  /** See `Entry.blobId`. */
  readonly blobId: string;
  /** See `Entry.news`. */
  readonly news: boolean;
  wants(): KeyRange | undefined;
  take(rows: Rows): void;
  /** The entry, packed. After this or `free` it is of no further use. */
  finish(): Uint8Array;
  free(): void;
}

/** Tells waiting readers that there is more. Rings carry no data, so none can pile up. */
export class Doorbell {
  #highest: number;
  #end: { readonly error: ZerokError | undefined } | undefined;
  #waiting = new Set<() => void>();

  constructor(highest: number) {
    this.#highest = highest;
  }

  get highest(): number {
    return this.#highest;
  }

  ring(position: number): void {
    this.#highest = Math.max(this.#highest, position);
    this.#wakeAll();
  }

  /** Ends all reading: quietly, or with an error. */
  end(error?: ZerokError): void {
    this.#end ??= { error };
    this.#wakeAll();
  }

  /** Whether reading goes on; throws if it ended with an error. */
  isOpen(signal: AbortSignal): boolean {
    if (signal.aborted) return false;
    if (this.#end?.error !== undefined) throw this.#end.error;
    return this.#end === undefined;
  }

  /** Resolves when there is something behind `position`, or reading ends. */
  async waitBehind(position: number, signal: AbortSignal): Promise<void> {
    while (this.#highest <= position && this.isOpen(signal)) {
      await new Promise<void>((resolve) => {
        const wake = () => {
          this.#waiting.delete(wake);
          signal.removeEventListener("abort", wake);
          resolve();
        };
        this.#waiting.add(wake);
        signal.addEventListener("abort", wake);
      });
    }
  }

  #wakeAll(): void {
    for (const wake of [...this.#waiting]) wake();
  }
}

/** Reads entries as the app asks for them: stored ones first, then live, without a gap between. */
export function readEntries(source: EntrySource, after: number, options: EntriesOptions): AsyncIterableIterator<Entry> {
  const stopper = new AbortController();
  const stop = () => stopper.abort();
  if (options.signal?.aborted) stop();
  options.signal?.addEventListener("abort", stop);
  const reading = generate(source, after, options.own ?? false, stopper.signal);
  return {
    next: () => reading.next(),
    // The generator's own `return` would wait for an entry that may never come.
    return: () => {
      stop();
      options.signal?.removeEventListener("abort", stop);
      return reading.return(undefined);
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}

async function* generate(
  source: EntrySource,
  after: number,
  own: boolean,
  signal: AbortSignal,
): AsyncGenerator<Entry, undefined> {
  const { doorbell } = source;
  /** An entry that lacked some of its parts. */
  let notWhole: string | undefined;
  reading: while (doorbell.isOpen(signal)) {
    // Taken before reading: what is stored while the page is read rings once more.
    const highest = doorbell.highest;
    const { keys, values } = await source.page(after, PAGE_BYTES_MAX).catch((error: unknown) => {
      // Closing the client closes the database under a page being read.
      if (doorbell.isOpen(signal)) throw error;
      return { keys: [], values: [] };
    });
    for (let at = 0; at < keys.length; at++) {
      const [key, value] = [keys[at], values[at]];
      if (key === undefined || value === undefined) return;
      for (const found of source.read(key, value, after)) {
        for (const stored of found instanceof Uint8Array ? unpackEntries(found) : [found]) {
          if (!doorbell.isOpen(signal)) return;
          // Of one in parts nothing can be asked any more once it is put together.
          const { position, blobId } = stored;
          after = position;
          if (!own && !stored.news) continue;
          let entry: Entry | undefined;
          try {
            entry = "wants" in stored ? await whole(source, stored, signal) : stored;
          } catch (error) {
            // Its parts may have gone since its row was read, for a snapshot in its place or behind it:
            // that comes next. An entry that is there again and lacks them again is damaged.
            if (blobId === notWhole) throw error;
            notWhole = blobId;
            after = position - 1;
            continue reading;
          }
          if (entry === undefined) return;
          yield entry;
        }
      }
    }
    if (keys.length === 0) await doorbell.waitBehind(highest, signal);
  }
}

/** Puts an entry together; nothing if reading ends meanwhile. */
async function whole(source: EntrySource, stored: InParts, signal: AbortSignal): Promise<Entry | undefined> {
  for (;;) {
    const range = stored.wants();
    if (range === undefined) return unpackEntry(callCore(() => stored.finish()));
    const rows = await source.rows(range, PAGE_BYTES_MAX).catch((error: unknown) => {
      if (source.doorbell.isOpen(signal)) throw error;
      return undefined;
    });
    if (rows === undefined || !source.doorbell.isOpen(signal)) {
      stored.free();
      return undefined;
    }
    callCore(() => stored.take(rows));
  }
}
