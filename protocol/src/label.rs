//! Every domain separator of the protocol that both sides use, in one place.
//!
//! A label is never reused for a second purpose; `zerok-sync-core` has its own list for what only
//! members compute.

/// First bytes of the Noise prologue of a relay channel; the suite byte follows.
pub const CHANNEL_PROLOGUE: &[u8] = b"0k-sync/1";
/// HKDF label of the post-quantum psk that is mixed into every handshake.
pub const CHANNEL_PSK: &[u8] = b"0k-sync/1 pq";
/// Signed by the group's auth key in `Hello`.
pub const HELLO: &[u8] = b"0k-sync/1 hello";
/// Signed by the *next* auth key in `Rotate`.
pub const ROTATE: &[u8] = b"0k-sync/1 rotate";
/// Hashed with the auth public key: the name of a log at a relay.
pub const LOG_NAME: &[u8] = b"0k-sync/1 log";
/// Hashed with the relay's Noise key: the relay's tag inside envelopes.
pub const RELAY_TAG: &[u8] = b"0k-sync/1 relay";

/// WebSocket subprotocol.
pub const WS_SUBPROTOCOL: &str = "0k-sync.v1";
/// WebSocket path.
pub const WS_PATH: &str = "/v1/ws";
/// ALPN of the iroh transport.
pub const IROH_ALPN: &[u8] = b"0k-sync/1";
/// Where a relay describes itself over HTTP.
pub const WELL_KNOWN_PATH: &str = "/.well-known/0k-sync";
