import { IndexedDbStorage, storageError } from "./indexeddb.js";
import type { ZerokError } from "./error.js";
import { MemoryStorage } from "./memory.js";
import type { Storage } from "./storage.js";

/**
 * Opens the database of this name, or storage in memory where the browser has none to give. A
 * database that is there and cannot be opened is an error: going on without it would look as if
 * the group were gone.
 *
 * @param onLost called when the database is taken away later
 */
export async function openStorage(name: string, onLost: (error: ZerokError) => void): Promise<Storage> {
  if (typeof indexedDB === "undefined") return new MemoryStorage();
  try {
    const storage = await IndexedDbStorage.open(name, onLost);
    // Asks not to be evicted when space runs short; browsers decide by themselves, some ask.
    void navigator.storage?.persist?.().catch(() => {});
    return storage;
  } catch (error) {
    if (error instanceof DOMException && NOT_ALLOWED.has(error.name)) return new MemoryStorage();
    throw storageError(error);
  }
}

/** What browsers say where a page may have no database at all: private windows, blocked storage. */
const NOT_ALLOWED = new Set(["InvalidStateError", "SecurityError"]);
