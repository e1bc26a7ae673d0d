import type { CoreEvent } from "./bridge.js";
import { Deferred } from "./deferred.js";
import { asZerokError, ZerokError } from "./error.js";

/** Somebody who holds the link. */
export interface WaitingJoiner {
  /** What the joining device calls itself. Untrusted text. */
  readonly name: string;
  /** The two digits that the joining device shows; ask the person whether they match. */
  readonly digits: string;
}

/** How to invite. */
export interface InviteOptions {
  /**
   * Asks the person. Only after it resolved to `true` does anything about the group leave this
   * device.
   */
  readonly onJoiner: (joiner: WaitingJoiner) => Promise<boolean> | boolean;
  /** The page that the link opens. Default: the relay's own. */
  readonly baseUrl?: string;
  /** Life of the link; default and maximum ten minutes. */
  readonly ttlMs?: number;
  /** Takes the invitation back. */
  readonly signal?: AbortSignal;
}

/** A device that was let in. */
export interface InvitedDevice {
  /** Its identity in the group, as hex. */
  readonly device: string;
  readonly name: string;
}

/** An open invitation. */
export interface Invitation {
  /** Holds the pairing secret: show it to the joining device only. */
  readonly link: string;
  /** Resolves when the device is in and has stored the group; rejects if nobody was let in. */
  readonly done: Promise<InvitedDevice>;
}

/** What an invitation needs of the engine. */
export interface Inviting {
  answerJoiner(accept: boolean): void;
  cancelInvite(): void;
}

/** One invitation from its opening to its end. */
export class PendingInvitation {
  readonly #engine: Inviting;
  readonly #options: InviteOptions;
  readonly #ready = new Deferred<Invitation>();
  readonly #done = new Deferred<InvitedDevice>();
  readonly #onAbort = () => this.#engine.cancelInvite();
  #over = false;

  constructor(engine: Inviting, options: InviteOptions) {
    this.#engine = engine;
    this.#options = options;
    options.signal?.addEventListener("abort", this.#onAbort);
  }

  /** Resolves when the link can be shown. */
  get ready(): Promise<Invitation> {
    return this.#ready.promise;
  }

  get isOver(): boolean {
    return this.#over;
  }

  handle(event: CoreEvent): void {
    switch (event.type) {
      case "invite_ready":
        this.#ready.resolve({ link: event.link, done: this.#done.promise });
        break;
      case "joiner_waiting":
        void this.#ask({ name: event.name, digits: event.digits });
        break;
      case "invite_accepted":
        this.#finish();
        this.#done.resolve({ device: event.device, name: event.name });
        break;
      case "invite_failed":
        this.fail(ZerokError.from(event.failure));
        break;
    }
  }

  fail(error: Error): void {
    this.#finish();
    this.#ready.reject(error);
    this.#done.reject(error);
  }

  async #ask(joiner: WaitingJoiner): Promise<void> {
    let accept: boolean;
    try {
      // Only a plain `true` lets a device in.
      accept = (await this.#options.onJoiner(joiner)) === true;
    } catch (error) {
      this.#engine.answerJoiner(false);
      this.fail(error instanceof Error ? error : asZerokError(error));
      return;
    }
    // A late answer must not be taken for one about the next invitation's joiner.
    if (!this.#over) this.#engine.answerJoiner(accept);
  }

  #finish(): void {
    this.#over = true;
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
  }
}
