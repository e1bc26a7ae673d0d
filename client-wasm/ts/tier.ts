import { Deferred } from "./deferred.js";
import type { ZerokError } from "./error.js";

/** Promises for one kind of durability, settled in the order of the numbers that become durable. */
export class Tier {
  #reached: number;
  /** By rising number. */
  readonly #waiting: { readonly number: number; readonly done: Deferred<void> }[] = [];

  constructor(reached: number) {
    this.#reached = reached;
  }

  /** Resolves once this number is durable. Nobody has to wait for it. */
  wait(number: number): Promise<void> {
    const done = new Deferred<void>();
    if (number <= this.#reached) {
      done.resolve();
    } else {
      let at = this.#waiting.length;
      while (at > 0 && (this.#waiting[at - 1]?.number ?? 0) > number) at--;
      this.#waiting.splice(at, 0, { number, done });
    }
    return done.promise;
  }

  reached(number: number): void {
    this.#reached = Math.max(this.#reached, number);
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
