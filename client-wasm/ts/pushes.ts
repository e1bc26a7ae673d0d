import { Deferred } from "./deferred.js";
import type { ZerokError } from "./error.js";

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

/** Promises for one durability tier, settled in the order of the push numbers. */
class Tier {
  /** Numbers rise. */
  readonly #waiting: { readonly number: number; readonly done: Deferred<void> }[] = [];

  wait(number: number): Promise<void> {
    const done = new Deferred<void>();
    this.#waiting.push({ number, done });
    return done.promise;
  }

  reached(number: number): void {
    const behind = this.#waiting.findIndex((waiting) => waiting.number > number);
    const reached = this.#waiting.splice(0, behind === -1 ? this.#waiting.length : behind);
    for (const { done } of reached) done.resolve();
  }

  refuse(number: number, error: ZerokError): void {
    const at = this.#waiting.findIndex((waiting) => waiting.number === number);
    if (at !== -1) this.#waiting.splice(at, 1)[0]?.done.reject(error);
  }

  refuseAll(error: ZerokError): void {
    for (const { done } of this.#waiting.splice(0)) done.reject(error);
  }
}

/** Who waits for which push to become durable, here and at the relay. */
export class Pushes {
  readonly #local = new Tier();
  readonly #relay = new Tier();

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
