import type { CoreEvent } from "./bridge.js";
import { Deferred } from "./deferred.js";
import { asZerokError, ZerokError } from "./error.js";
import { type QrCode, qrCodeOf } from "./qr.js";

/** Somebody who holds the link or code, and what they would be given. */
export interface WaitingJoiner {
  /** What the joining device calls itself. Untrusted text. */
  readonly name: string;
  /** How many entries it could read, to begin with. */
  readonly entries: number;
  /** The names of the group's devices. */
  readonly members: readonly string[];
}

/** How to invite. */
export interface InviteOptions {
  /** A link (default), which also makes a QR code, or a short code to be read out and typed. */
  readonly kind?: "link" | "code";
  /**
   * Asks the person for the two digits that the joining device shows, and resolves to what was
   * typed; to `undefined` to turn the device away. The digits are compared in the core, and only if
   * they are right does anything about the group leave this device; other ones end the invitation
   * on both sides. Text that is not two digits is no answer: the person is asked again.
   */
  readonly onJoiner: (joiner: WaitingJoiner) => Promise<string | undefined> | string | undefined;
  /** The page that the link opens. Default: the relay's own. */
  readonly baseUrl?: string;
  /** Life of the invitation; default and maximum ten minutes. */
  readonly ttlMs?: number;
  /** Takes the invitation back; the joining device is told. */
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
  readonly kind: "link" | "code";
  /** The link or the code. Holds the pairing secret: show it to the joining device only. */
  readonly text: string;
  /** The link as a QR code, to be drawn as SVG or on a canvas; codes are typed, not scanned. */
  readonly qr: QrCode | undefined;
  /** Resolves when the device is in and has stored the group; rejects if nobody was let in. */
  readonly done: Promise<InvitedDevice>;
}

/** What an invitation needs of the engine. */
export interface Inviting {
  answerJoiner(typed: string): boolean;
  declineJoiner(): void;
  cancelInvite(): void;
}

/** How often a person is asked again after text that was no answer: an app may answer by itself. */
const ASKED_TIMES_MAX = 20;

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

  /** Resolves when the link or code can be shown. */
  get ready(): Promise<Invitation> {
    return this.#ready.promise;
  }

  get isOver(): boolean {
    return this.#over;
  }

  handle(event: CoreEvent): void {
    switch (event.type) {
      case "invite_ready":
        this.#ready.resolve(this.#invitation(event.invite));
        break;
      case "joiner_waiting":
        void this.#ask({ name: event.name, entries: event.entries, members: event.members });
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

  #invitation(text: string): Invitation {
    const kind = this.#options.kind ?? "link";
    return { kind, text, qr: kind === "link" ? qrCodeOf(text) : undefined, done: this.#done.promise };
  }

  async #ask(joiner: WaitingJoiner): Promise<void> {
    try {
      for (let asked = 0; asked < ASKED_TIMES_MAX; asked++) {
        const typed = await this.#options.onJoiner(joiner);
        // A late answer must not be taken for one about the next invitation's joiner.
        if (this.#over) return;
        // Only text lets a device in, whatever untyped code answers.
        if (typeof typed !== "string") break;
        if (this.#engine.answerJoiner(typed)) return;
      }
      this.#engine.declineJoiner();
    } catch (error) {
      if (this.#over) return;
      this.#engine.declineJoiner();
      this.fail(error instanceof Error ? error : asZerokError(error));
    }
  }

  #finish(): void {
    this.#over = true;
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
  }
}
