import { callCore } from "./error.js";
import { init } from "./init.js";
import { linkRelay } from "./zerok_sync_wasm.js";

/** Where an invitation link leads. */
export interface LinkRelay {
  /** The relay's origin. */
  readonly relay: string;
  /** Its Noise key as hex. */
  readonly relayKey: string;
}

/**
 * Checks an invitation link and says which relay it leads to, without connecting. Rejects with
 * `invalid_link`, whose message says what is wrong with it.
 */
export async function readLink(link: string): Promise<LinkRelay> {
  await init();
  return callCore(() => linkRelay(link)) as LinkRelay;
}
