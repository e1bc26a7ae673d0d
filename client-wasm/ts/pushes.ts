import type { ZerokError } from "./error.js";
import { Tier } from "./tier.js";

/** A blob that is durable on this device. */
export interface Pushed {
  /** Its number: pushes of this device are numbered upwards, with gaps. */
  readonly number: number;
  /**
   * Resolves once the relay has it on disk. Stays pending while offline; rejects if the relay
   * refused it or the client was closed first. Either way the blob stays in the outbox, and the
   * client sends it whenever it can.
   */
  readonly atRelay: Promise<void>;
}

/** Who waits for which push to become durable, here and at the relay. */
export class Pushes {
  readonly #local = new Tier(0);
  readonly #relay = new Tier(0);

  /** Waits for the local tier of a push just made. */
  async stored(number: number): Promise<Pushed> {
    const atRelay = this.#relay.wait(number);
    await this.#local.wait(number);
    return { number, atRelay };
  }

  onStored(number: number): void {
    this.#local.reached(number);
  }

  onAcked(number: number): void {
    this.#relay.reached(number);
  }

  onRefused(number: number, error: ZerokError): void {
    this.#relay.refuse(number, error);
  }

  /** Nothing more will be heard. */
  end(error: ZerokError): void {
    this.#local.refuseAll(error);
    this.#relay.refuseAll(error);
  }
}
