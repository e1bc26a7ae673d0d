//! The sealed stream: a header, then chunks of 64 KiB under STREAM (Hoang, Reyhanitabar, Rogaway,
//! Vizár: Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance, 2015) with
//! XChaCha20-Poly1305.
//!
//! A chunk's nonce says which one it is and whether it is the last, so none can be left out, moved,
//! repeated or added; the header is every chunk's associated data. Nothing is given out before its
//! chunk is authenticated.

use aead_stream::{NewStream, StreamBE32, StreamPrimitive};
use chacha20poly1305::aead::Payload;
use chacha20poly1305::{Key, XChaCha20Poly1305};
use zeroize::Zeroizing;

use super::ExportError;
use crate::label;
use crate::passphrase::{Cost, Passphrase, PassphraseHeader};

const MAGIC: &[u8] = b"0k-sync export 1\n";
/// What every version's line begins with.
const MAGIC_START: &[u8] = b"0k-sync export ";
const SALT_BYTES: usize = 16;
/// Of the nonce; the other five bytes are the chunk's number and whether it is the last.
const NONCE_BYTES: usize = 19;
const TAG_BYTES: usize = 16;
/// Plaintext in every chunk but the last.
const CHUNK_BYTES: usize = 64 * 1024;

/// Random bytes that sealing takes.
pub(super) const RANDOM_BYTES: usize = SALT_BYTES + NONCE_BYTES;
/// line ‖ passphrase header ‖ nonce.
pub(super) const HEADER_BYTES: usize = MAGIC.len() + PassphraseHeader::LEN + NONCE_BYTES;

/// The key with the numbering of the chunks.
struct Chunks {
    stream: StreamBE32<XChaCha20Poly1305>,
    header: [u8; HEADER_BYTES],
    next: u32,
}

/// Seals what is written to it.
pub(super) struct Sealer {
    chunks: Chunks,
    pending: Zeroizing<Vec<u8>>,
}

/// Opens what a [`Sealer`] made.
pub(super) struct Opener {
    chunks: Chunks,
    pending: Vec<u8>,
}

impl Sealer {
    /// Starts a file: its header is `self.header()`. `random` must be fresh random bytes.
    pub(super) fn new(passphrase: &Passphrase, cost: Cost, random: &[u8; RANDOM_BYTES]) -> Self {
        let (salt, nonce) = random.split_at(SALT_BYTES);
        let salt = salt.try_into().expect("cut to this length");
        let (stretched, key) = PassphraseHeader::create(passphrase, cost, salt, label::EXPORT);
        let mut header = [0; HEADER_BYTES];
        let bytes = [MAGIC, &stretched.to_bytes(), nonce].concat();
        header.copy_from_slice(&bytes);
        Self { chunks: Chunks::new(&key, header), pending: Zeroizing::new(Vec::with_capacity(2 * CHUNK_BYTES)) }
    }

    pub(super) fn header(&self) -> &[u8; HEADER_BYTES] {
        &self.chunks.header
    }

    /// Takes plaintext; whole chunks come out.
    pub(super) fn write(&mut self, mut plaintext: &[u8], out: &mut Vec<u8>) {
        while !plaintext.is_empty() {
            // One that is full is sealed once more follows: until then it may be the last.
            if self.pending.len() == CHUNK_BYTES {
                self.chunks.seal(&self.pending, false, out);
                self.pending.clear();
            }
            let (now, later) = plaintext.split_at(plaintext.len().min(CHUNK_BYTES - self.pending.len()));
            self.pending.extend_from_slice(now);
            plaintext = later;
        }
    }

    /// The last chunk.
    pub(super) fn finish(mut self, out: &mut Vec<u8>) {
        self.chunks.seal(&self.pending, true, out);
    }
}

impl Opener {
    /// Reads a header and stretches the passphrase as it says.
    pub(super) fn new(header: &[u8; HEADER_BYTES], passphrase: &Passphrase) -> Result<Self, ExportError> {
        let stretched = parse_header(header)?;
        let key = stretched.key(passphrase, label::EXPORT).map_err(|_| ExportError::WrongPassphrase)?;
        Ok(Self { chunks: Chunks::new(&key, *header), pending: Vec::new() })
    }

    /// Takes sealed bytes; the plaintext of whole chunks comes out.
    pub(super) fn read(&mut self, mut sealed: &[u8], out: &mut Vec<u8>) -> Result<(), ExportError> {
        while !sealed.is_empty() {
            if self.pending.len() == CHUNK_BYTES + TAG_BYTES {
                let opened = self.chunks.open(&self.pending, false).ok_or(ExportError::Damaged)?;
                out.extend_from_slice(&opened);
                self.pending.clear();
            }
            let (now, later) = sealed.split_at(sealed.len().min(CHUNK_BYTES + TAG_BYTES - self.pending.len()));
            self.pending.extend_from_slice(now);
            sealed = later;
        }
        Ok(())
    }

    /// Nothing more comes: what is left has to be the last chunk.
    pub(super) fn finish(mut self, out: &mut Vec<u8>) -> Result<(), ExportError> {
        if let Some(opened) = self.chunks.open(&self.pending, true) {
            out.extend_from_slice(&opened);
            return Ok(());
        }
        // Sound, and not the last: the file ends between two chunks.
        let cut_off = self.pending.len() < TAG_BYTES || self.chunks.open(&self.pending, false).is_some();
        Err(if cut_off { ExportError::CutOff } else { ExportError::Damaged })
    }
}

/// What a header says of its passphrase.
pub(super) fn parse_header(header: &[u8; HEADER_BYTES]) -> Result<PassphraseHeader, ExportError> {
    let Some(rest) = header.strip_prefix(MAGIC) else {
        let ours = header.starts_with(MAGIC_START);
        return Err(if ours { ExportError::Newer } else { ExportError::NotAnExport });
    };
    let stretched = rest.first_chunk().expect("the header has room for it");
    Ok(PassphraseHeader::parse(stretched)?)
}

impl Chunks {
    fn new(key: &[u8; 32], header: [u8; HEADER_BYTES]) -> Self {
        let nonce: [u8; NONCE_BYTES] = *header.last_chunk().expect("the header ends with it");
        Self { stream: StreamBE32::new(&Key::from(*key), &nonce.into()), header, next: 0 }
    }

    fn seal(&mut self, plaintext: &[u8], last: bool, out: &mut Vec<u8>) {
        let payload = Payload { msg: plaintext, aad: &self.header };
        out.extend(self.stream.encrypt(self.next, last, payload).expect("a chunk is short"));
        self.next = self.next.checked_add(1).expect("a file below 256 TiB");
    }

    fn open(&mut self, sealed: &[u8], last: bool) -> Option<Zeroizing<Vec<u8>>> {
        let payload = Payload { msg: sealed, aad: &self.header };
        let opened = self.stream.decrypt(self.next, last, payload).ok().map(Zeroizing::new)?;
        self.next = self.next.checked_add(1)?;
        Some(opened)
    }
}
