import { callCore } from "./error.js";
import { init } from "./init.js";
import { inviteKind } from "./zerok_sync_wasm.js";

/** What an invitation says about itself. */
export type InviteText =
  | {
      readonly kind: "link";
      /** The relay's origin. */
      readonly relay: string;
      /** Its Noise key as hex. */
      readonly relayKey: string;
    }
  /** A code is at the relay that the joining device was told by its app. */
  | { readonly kind: "code" };

/**
 * Checks a link or a code, as a person pasted or typed it, without connecting. Rejects with
 * `invalid_link` or `invalid_code`, whose message says what is wrong with it: a typo in a code is
 * found here and does not cost the one try that it is good for.
 */
export async function readInvite(text: string): Promise<InviteText> {
  await init();
  return callCore(() => inviteKind(text)) as InviteText;
}
