import { Deferred } from "./deferred.js";
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
  /**
   * Resolves once it is durable there: on this device, at the relay (as `atRelay`), or on every other
   * device of the group, as each has said in its own signed words. The last takes as long as somebody
   * is away; with no other device it is the same as `relay`.
   *
   * @example
   * const pushed = await client.push(blob);
   * await pushed.durable("all-devices");
   */
  durable(tier: Durability): Promise<void>;
}

/** How far a push has come. */
export type Durability = "local" | "relay" | "all-devices";

/** Who waits for which push to become durable, here and at the relay. */
export class Pushes {
  readonly #local = new Tier(0);
  readonly #relay = new Tier(0);
  readonly #everywhere: Tier;
  #snapshot: Deferred<number> | undefined;

  constructor(everywhere: number) {
    this.#everywhere = new Tier(everywhere);
  }

  /** Waits for the local tier of a push just made. */
  async stored(number: number): Promise<Pushed> {
    const atRelay = this.#relay.wait(number);
    await this.#local.wait(number);
    const durable = async (tier: Durability) => {
      if (tier !== "local") await atRelay;
      if (tier === "all-devices") await this.#everywhere.wait(number);
    };
    return { number, atRelay, durable };
  }

  /** The number of the snapshot just asked for; there is one at a time. */
  snapshot(): Promise<number> {
    this.#snapshot = new Deferred<number>();
    return this.#snapshot.promise;
  }

  onSnapshot(number: number): void {
    this.#snapshot?.resolve(number);
    this.#snapshot = undefined;
  }

  onStored(number: number): void {
    this.#local.reached(number);
  }

  onAcked(number: number): void {
    this.#relay.reached(number);
  }

  onEverywhere(number: number): void {
    this.#everywhere.reached(number);
  }

  onRefused(number: number, error: ZerokError): void {
    this.#relay.refuse(number, error);
  }

  /** Nothing more will be heard. */
  end(error: ZerokError): void {
    this.#local.refuseAll(error);
    this.#relay.refuseAll(error);
    this.#everywhere.refuseAll(error);
    this.#snapshot?.reject(error);
  }
}
