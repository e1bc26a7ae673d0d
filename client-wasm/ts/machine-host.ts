import type { CoreEvent, Host, Rows } from "./bridge.js";
import { asZerokError, type ZerokError } from "./error.js";
import type { Storage } from "./storage.js";

/** What the machines have in common, as seen from here. */
export interface Machine {
  tick(): void;
  wake(): void;
  committed(id: number): void;
  commitFailed(id: number, full: boolean, message: string): void;
  scanned(id: number, rows: Rows): void;
  free(): void;
}

/** `setTimeout` fires at once for anything larger. */
const TIMEOUT_MS_MAX = 2 ** 31 - 1;

/**
 * Carries out for one machine in wasm what it cannot do there: storage, timers, events.
 *
 * Every answer goes back from the event loop, never from inside a call into wasm, and listeners
 * run outside of such calls too: so they may call the client.
 */
export class MachineHost<M extends Machine> implements Host {
  readonly #storage: Storage;
  readonly #onEvents: (events: CoreEvent[]) => void;
  readonly #onCrash: (error: ZerokError) => void;
  #machine: M | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #events: CoreEvent[] = [];
  /** Settles when nothing asked of storage is outstanding. */
  #storageIdle: Promise<void> = Promise.resolve();

  /**
   * @param onEvents gets the events of one turn together, in order
   * @param onCrash the machine cannot go on: a trap in wasm, or a read from storage that failed
   */
  constructor(storage: Storage, onEvents: (events: CoreEvent[]) => void, onCrash: (error: ZerokError) => void) {
    this.#storage = storage;
    this.#onEvents = onEvents;
    this.#onCrash = onCrash;
  }

  /** Takes the machine that was made with this host. */
  attach(machine: M): M {
    this.#machine = machine;
    return machine;
  }

  /** Lets the machine carry out what waits, and frees it. */
  async settle(): Promise<void> {
    for (let idle; idle !== this.#storageIdle; ) {
      idle = this.#storageIdle;
      await idle;
    }
    this.stop();
  }

  /** Frees the machine at once; nothing reaches it or comes from it any more. */
  stop(): void {
    clearTimeout(this.#timer);
    const machine = this.#machine;
    this.#machine = undefined;
    this.#events = [];
    try {
      machine?.free();
    } catch {
      // After a trap the machine counts as in use for ever; its memory goes with the page.
    }
  }

  wake(): void {
    this.#tell((machine) => machine.wake());
  }

  tick(): void {
    this.#tell((machine) => machine.tick());
  }

  commit(id: number, keys: Uint8Array[], values: (Uint8Array | undefined)[]): void {
    this.#afterStorage(this.#storage.commit(keys, values), {
      done: () => this.#tell((machine) => machine.committed(id)),
      failed: (error) =>
        this.#tell((machine) => machine.commitFailed(id, error.code === "storage_full", error.message)),
    });
  }

  scan(id: number, from: Uint8Array, to: Uint8Array, bytesMax: number): void {
    this.#afterStorage(this.#storage.scan(from, to, bytesMax), {
      done: (rows) => this.#tell((machine) => machine.scanned(id, rows)),
      failed: (error) => this.#onCrash(error),
    });
  }

  deadline(delayMs: number | undefined): void {
    clearTimeout(this.#timer);
    if (delayMs === undefined) return;
    this.#timer = setTimeout(() => this.tick(), Math.min(delayMs, TIMEOUT_MS_MAX));
  }

  event(event: CoreEvent): void {
    if (this.#events.push(event) > 1) return;
    queueMicrotask(() => {
      const events = this.#events;
      this.#events = [];
      if (this.#machine !== undefined) this.#onEvents(events);
    });
  }

  #afterStorage<T>(
    request: Promise<T>,
    { done, failed }: { done: (value: T) => void; failed: (error: ZerokError) => void },
  ): void {
    const answered = request.then(done, (error: unknown) => failed(asZerokError(error)));
    const before = this.#storageIdle;
    this.#storageIdle = answered.then(() => before);
  }

  #tell(call: (machine: M) => void): void {
    if (this.#machine === undefined) return;
    try {
      call(this.#machine);
    } catch (error) {
      this.#onCrash(asZerokError(error));
    }
  }
}
