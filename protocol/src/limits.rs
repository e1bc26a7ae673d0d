//! Every limit and deadline that both sides must agree on, with its unit and its reason.
//! A relay's own, configurable limits travel in `Welcome` and are clamped by the client.

/// Suite byte: Noise XXpsk3 25519 ChaChaPoly SHA256 with ML-KEM-768.
pub const SUITE: u8 = 1;
/// Protocol minor versions this code speaks, lowest and highest.
pub const MINOR_MIN: u8 = 0;
/// See [`MINOR_MIN`].
pub const MINOR_MAX: u8 = 0;

/// Longest handshake message a peer accepts. The largest real one is 1,233 bytes.
pub const HANDSHAKE_MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// A handshake that is not complete after this long is dropped.
pub const HANDSHAKE_DEADLINE_MS: u64 = 10_000;

/// Longest Noise message (Noise specification §3).
pub const NOISE_MESSAGE_BYTES_MAX: usize = 65_535;
/// Plaintext that fits a Noise message beside its 16-byte tag.
pub const NOISE_PLAINTEXT_BYTES_MAX: usize = NOISE_MESSAGE_BYTES_MAX - 16;
/// Each direction rekeys after this many Noise messages.
pub const REKEY_AFTER_MESSAGES: u64 = 65_536;

/// Frame limit of a relay before `Hello`: an unauthenticated peer cannot make it buffer more. A
/// client has checked the relay's key by then and takes `Welcome` and `Superseded`, which are
/// longer, under the limit for members.
pub const FRAME_BYTES_MAX_HELLO: usize = 4 * 1024;
/// Frame limit of a guest session: one mailbox message and its framing.
pub const FRAME_BYTES_MAX_GUEST: usize = 64 * 1024;
/// What a member's frame may be longer than the relay's envelope limit.
pub const FRAME_OVERHEAD_BYTES_MAX: usize = 64 * 1024;

/// Default of the relay's envelope limit: 1 MiB of blob, and 128 KiB for 64 devices' `seen`,
/// the signature and PADMÉ.
pub const ENVELOPE_BYTES_MAX_DEFAULT: u32 = 1_179_648;
/// No client accepts a larger envelope limit from a relay than this.
pub const ENVELOPE_BYTES_MAX_CEILING: u32 = 16 * 1024 * 1024;
/// Largest blob whatever the relay allows; larger data goes as an atomic batch.
pub const BLOB_BYTES_MAX: usize = 1024 * 1024;

/// Largest epoch envelope. A relay hands up to [`SUPERSEDED_LOGS_MAX`] of them to a device that has
/// proven no auth key, so they are held to what one can need: 72 wraps of 1,176 bytes (65 devices
/// and dummies) are 83 KiB; a keyring of 1,000 secrets, 65 removals and as many heads sealed and
/// padded are 48 KiB. The rest is room to spare.
pub const EPOCH_ENVELOPE_BYTES_MAX: usize = 192 * 1024;

/// Devices of a group at a relay: 64 and the paper device.
pub const ALLOW_LIST_MAX: usize = 65;
/// In place of a cursor in `Ack`: this device never reads the log (recovery words), and no floor
/// waits for it.
pub const READS_NOTHING: u64 = u64::MAX;
/// Opaque bytes a relay keeps for each device.
pub const SLOT_BYTES_MAX: usize = 4 * 1024;
/// Logs a relay answers for one Noise key in `Superseded`.
pub const SUPERSEDED_LOGS_MAX: usize = 4;
/// Sessions per Noise key; a fifth closes the one that has been idle longest.
pub const SESSIONS_PER_DEVICE_MAX: usize = 4;

/// Envelopes in one `Push` or `Create`.
pub const PUSH_ENVELOPES_MAX: usize = 1_000;
/// Items in one `Entries`.
pub const ENTRIES_ITEMS_MAX: usize = 1_000;
/// Cursors in one `Probe`.
pub const PROBE_CURSORS_MAX: usize = 1_000;
/// Blob ids in one `Missing`.
pub const MISSING_BLOB_IDS_MAX: usize = 1_000;
/// Longest `detail` of an error, in bytes of UTF-8.
pub const ERROR_DETAIL_BYTES_MAX: usize = 512;
/// Longest creation token.
pub const TOKEN_BYTES_MAX: usize = 256;
/// Longest whisper: presence, not data.
pub const WHISPER_BYTES_MAX: usize = 4 * 1024;

/// One message in a pairing mailbox.
pub const MAILBOX_MESSAGE_BYTES_MAX: usize = 60 * 1024;
/// Messages of both sides together before a mailbox closes.
pub const MAILBOX_MESSAGES_MAX: usize = 16;
/// Life of a mailbox.
pub const MAILBOX_TTL_MS: u64 = 10 * 60 * 1000;

/// A peer sends `Ping` after this long without traffic.
pub const PING_AFTER_IDLE_MS: u64 = 25_000;
/// A link is dead when no byte came for this long after a `Ping`.
pub const DEAD_AFTER_PING_MS: u64 = 10_000;
/// The same, right after a wake-up.
pub const DEAD_AFTER_WAKE_PING_MS: u64 = 3_000;

/// A relay's `retry_after` is believed up to this before the channel stands …
pub const RETRY_AFTER_MAX_UNAUTHENTICATED_MS: u64 = 60_000;
/// … and up to this inside it.
pub const RETRY_AFTER_MAX_MS: u64 = 600_000;

const _: () = assert!(MAILBOX_MESSAGE_BYTES_MAX < FRAME_BYTES_MAX_GUEST);
const _: () = assert!(ENVELOPE_BYTES_MAX_DEFAULT as usize > BLOB_BYTES_MAX);
const _: () = assert!(ENVELOPE_BYTES_MAX_DEFAULT as usize > EPOCH_ENVELOPE_BYTES_MAX);
