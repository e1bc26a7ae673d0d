/** One blob of the group, authenticated: signature, chain and membership have been checked. */
export interface Entry {
  /** This device's own stable numbering; give it to `processed()` and `entries({ after })`. */
  readonly position: number;
  /** What was pushed. */
  readonly data: Uint8Array;
  /** The device that pushed it, as hex. */
  readonly sender: string;
  /** Whether this device pushed it. */
  readonly own: boolean;
  /**
   * Whether the app's state lacks it: another device pushed it, or this one did, and a snapshot that
   * replaced that state does not hold it.
   */
  readonly news: boolean;
  /** The sender's clock when it was sealed, Unix milliseconds; as wrong as that clock. */
  readonly sentAt: number;
  /** With `sender` and `seq` a total order that is the same on every device. */
  readonly lamport: number;
  /** Number among the sender's entries. */
  readonly seq: number;
  /** Whether it was written in knowledge of something that is not here yet. */
  readonly missingDeps: boolean;
  /** Whether it stands for everything before it: replace the app's state by `data` and go on from here. */
  readonly snapshot: boolean;
  /** Where it stands in the relay's log. Information only. */
  readonly cursor: number;
  /** BLAKE3 of the envelope as hex: what the relay knows it by. */
  readonly blobId: string;
  /** The sealed bytes exactly as the relay stores them. */
  readonly envelope: Uint8Array;
}
