import type { CoreEvent, Host } from "./bridge.js";
import { Deferred } from "./deferred.js";
import { callCore, ZerokError } from "./error.js";
import { type Machine, MachineHost } from "./machine-host.js";
import type { Storage } from "./storage.js";

/** A machine that can be told to give up. */
interface Comer extends Machine {
  cancel(): void;
}

/**
 * A device on its way into a group, by an invitation or by recovery words: a machine in wasm that
 * runs once, until storage holds the group or it failed.
 */
export class Arrival<M extends Comer> {
  readonly #host: MachineHost<M>;
  readonly #machine: M;
  readonly #arrived = new Deferred<void>();
  #over = false;

  /** @param onEvent what the machine tells besides its end */
  constructor(storage: Storage, open: (host: Host) => M, onEvent: (event: CoreEvent) => void = () => {}) {
    this.#host = new MachineHost<M>(
      storage,
      (events) => {
        for (const event of events) this.#handle(event, onEvent);
      },
      (error) => this.fail(error),
    );
    this.#machine = this.#host.attach(callCore(() => open(this.#host)));
  }

  /** Resolves when storage holds the group; otherwise nothing was stored. */
  async run(signal: AbortSignal | undefined): Promise<void> {
    const cancel = () => this.answer((machine) => machine.cancel());
    signal?.addEventListener("abort", cancel);
    try {
      signal?.throwIfAborted();
      this.#host.tick();
      await this.#arrived.promise;
    } finally {
      this.#over = true;
      signal?.removeEventListener("abort", cancel);
      this.#host.stop();
    }
  }

  /** Says something to the machine, unless it is over by now. */
  answer(say: (machine: M) => void): void {
    if (!this.#over) say(this.#machine);
  }

  fail(error: Error): void {
    this.#arrived.reject(error);
  }

  wake(): void {
    this.#host.wake();
  }

  #handle(event: CoreEvent, onEvent: (event: CoreEvent) => void): void {
    switch (event.type) {
      case "joined":
      case "restored":
        this.#arrived.resolve();
        break;
      case "join_failed":
      case "restore_failed":
      case "storage_failed":
        this.fail(ZerokError.from(event.failure));
        break;
      default:
        onEvent(event);
    }
  }
}
