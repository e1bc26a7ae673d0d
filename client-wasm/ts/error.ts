/** What stopped something, in the core's own vocabulary. The strings never change meaning. */
export type ZerokErrorCode =
  // the relay
  | "unreachable"
  | "relay_key_changed"
  | "relay_key_needed"
  | "not_a_relay"
  | "unsupported_version"
  | "refused"
  | "epoch_not_opened"
  | "revoked"
  | "needs_approval"
  | "update_needed"
  | "snapshot_unusable"
  | "snapshot_awaited"
  | "protocol_violation"
  // pairing
  | "invalid_link"
  | "invalid_code"
  | "invite_gone"
  | "wrong_secret"
  | "declined"
  | "wrong_digits"
  | "refused_by_joiner"
  | "peer_left"
  | "unconfirmed"
  | "expired"
  | "cancelled"
  | "invalid_peer"
  | "already_in_group"
  | "only_in_snapshot"
  // recovery
  | "invalid_words"
  | "unknown_words"
  | "words_used"
  | "words_replaced"
  | "anchor_lost"
  | "not_your_group"
  | "older_state"
  | "log_incomplete"
  | "keys_changed"
  // the group
  | "group_full"
  | "no_such_device"
  | "ambiguous_device"
  | "own_device"
  | "last_device"
  | "nothing_to_approve"
  | "not_alone"
  | "not_yet"
  | "not_processed"
  | "not_caught_up"
  | "left"
  // this device
  | "no_group"
  | "corrupt"
  | "newer_database"
  | "database_in_use"
  | "passphrase_needed"
  | "wrong_passphrase"
  | "invalid_export"
  | "storage_full"
  | "storage_failed"
  | "too_large"
  | "not_connected"
  | "too_often"
  | "stopped"
  | "not_needed"
  | "relay_listed"
  | "relay_not_listed"
  | "too_many_relays"
  | "last_relay"
  | "timed_out"
  | "closed"
  | "busy"
  | "invalid_argument"
  | "internal";

/** An error as it crosses from wasm. */
export interface Failure {
  readonly code: ZerokErrorCode;
  readonly message: string;
  /** The relay's number, where `code` is `refused`. */
  readonly relayCode?: number;
}

/**
 * Everything this package rejects with. `message` is a sentence that says what to do next.
 *
 * @example
 * try {
 *   await client.join(codeOrLink);
 * } catch (error) {
 *   if (error instanceof ZerokError && error.code === "invite_gone") askForANewInvitation();
 *   else throw error;
 * }
 */
export class ZerokError extends Error implements Failure {
  override readonly name = "ZerokError";
  readonly code: ZerokErrorCode;
  readonly relayCode?: number;

  constructor(code: ZerokErrorCode, message: string, relayCode?: number) {
    super(message);
    this.code = code;
    if (relayCode !== undefined) this.relayCode = relayCode;
  }

  /** @internal */
  static from(failure: Failure): ZerokError {
    return new ZerokError(failure.code, failure.message, failure.relayCode);
  }
}

function isFailure(thrown: unknown): thrown is Failure {
  return typeof thrown === "object" && thrown !== null && "code" in thrown && "message" in thrown;
}

/**
 * Turns whatever was thrown into a `ZerokError`: failures from wasm as they are, anything else
 * (a trap in wasm is a bug of ours) as `internal`.
 *
 * @internal
 */
export function asZerokError(thrown: unknown): ZerokError {
  if (thrown instanceof ZerokError) return thrown;
  if (isFailure(thrown) && !(thrown instanceof Error)) return ZerokError.from(thrown);
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new ZerokError("internal", `this client stopped because of a bug in it: ${message}`);
}

/**
 * Calls into wasm.
 *
 * @internal
 */
export function callCore<T>(call: () => T): T {
  try {
    return call();
  } catch (thrown) {
    throw asZerokError(thrown);
  }
}
