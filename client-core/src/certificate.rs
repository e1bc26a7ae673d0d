//! How a device becomes a member: its card, and the inviter's signature over it.
//!
//! The certificate travels in the joiner's own first entry, so a relay learns nothing and no
//! position in the log matters. It is valid for one epoch: a rotation voids what was handed out
//! and not yet used.

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use zerok_sync_protocol::wire::{self, Reader, Wire, WireError, Writer};
use zerok_sync_protocol::{EpochId, Signature, wire_struct};

use crate::content::Kind;
use crate::id::{DeviceId, GroupId};
use crate::keys::MemberKeys;
use crate::label;
use crate::seal::{Authenticated, verify_signature};

/// Longest device name, in characters.
pub const NAME_CHARS_MAX: usize = 64;

/// What a device is called: 1 to 64 characters on one line, none of which changes how the text
/// around it is shown. Said by the device itself, so never proof of anything.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceName(String);

/// A text that cannot be a device's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a device name has 1 to {NAME_CHARS_MAX} characters on one line, without control characters")]
pub struct NotAName;

impl DeviceName {
    /// The nearest name to any text: without what a name may not hold, cut to length, and
    /// "device" if nothing is left.
    #[must_use]
    pub fn cleaned(text: &str) -> Self {
        let kept: String = text.trim().chars().filter(|&c| !is_refused(c)).take(NAME_CHARS_MAX).collect();
        Self::try_from(kept.trim().to_owned()).unwrap_or_else(|NotAName| Self("device".to_owned()))
    }
}

/// Control characters, line and paragraph separators, and those that override text direction: a
/// name is shown in a security question and must not repaint it.
fn is_refused(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{061c}')
}

impl TryFrom<String> for DeviceName {
    type Error = NotAName;
    fn try_from(name: String) -> Result<Self, NotAName> {
        let fits =
            !name.trim().is_empty() && name.chars().nth(NAME_CHARS_MAX).is_none() && !name.chars().any(is_refused);
        if fits { Ok(Self(name)) } else { Err(NotAName) }
    }
}

impl std::str::FromStr for DeviceName {
    type Err = NotAName;
    fn from_str(name: &str) -> Result<Self, NotAName> {
        name.to_owned().try_into()
    }
}

impl Deref for DeviceName {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Wire for DeviceName {
    fn write(&self, out: &mut Writer<'_>) {
        out.text(&self.0);
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, WireError> {
        bytes.text()?.parse().map_err(|error: NotAName| WireError::new(error.to_string()))
    }
}

wire_struct! {
    /// A device introducing itself.
    pub struct Card {
        /// Its public keys.
        keys: MemberKeys,
        /// What it is called.
        name: DeviceName,
    }
}

wire_struct! {
    /// What the inviter signs.
    pub struct JoinStatement {
        /// Who joins.
        card: Card,
        /// The epoch in which the invitation is valid.
        epoch: EpochId,
        /// Who invites.
        inviter: DeviceId,
    }
}

wire_struct! {
    /// A certificate's form in bytes: the statement exactly as it was signed, and the signature.
    pub struct SignedStatement {
        /// A [`JoinStatement`].
        statement: Bytes,
        /// By the inviter.
        signature: Signature,
    }
}

/// A membership granted: the inviter's signature over card, epoch and itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinCertificate {
    statement: JoinStatement,
    signed: SignedStatement,
}

/// Why an entry does not make its sender a member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The body is not a certificate.
    #[error("{0}")]
    Malformed(#[from] WireError),
    /// The inviter it names did not sign it, or signed it for another group.
    #[error("the invitation was not signed by the device it names")]
    BadSignature,
    /// The entry is not a `JOIN` or `PAPER`, or not its sender's first.
    #[error("a device joins with its first entry")]
    NotAFirstEntry,
    /// The entry was written by another device than the certificate is for.
    #[error("the invitation was given to another device")]
    AnotherDevice,
    /// The entry was sealed under another epoch than the certificate is for.
    #[error("the invitation was voided by a change of the group's keys: pair the device again")]
    AnotherEpoch,
}

impl JoinCertificate {
    /// The inviter's side.
    #[must_use]
    pub fn issue(group: &GroupId, inviter: &SigningKey, card: Card, epoch: EpochId) -> Self {
        let statement = JoinStatement { card, epoch, inviter: DeviceId(inviter.verifying_key().to_bytes()) };
        let bytes = Bytes::from(wire::encode(&statement));
        let signature = Signature(inviter.sign(&signed_message(group, &bytes)).to_bytes());
        Self { statement, signed: SignedStatement { statement: bytes, signature } }
    }

    /// Parses the body of a `JOIN` entry, or the field of a grant. Says nothing about who signed.
    ///
    /// # Errors
    /// When the bytes are not a certificate.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        wire::decode(bytes)
    }

    /// The body of the joiner's first entry.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        wire::encode(self).into()
    }

    /// Whether the inviter it names signed it for `group`. That the inviter was a member is for the
    /// caller to know.
    ///
    /// # Errors
    /// [`CertificateError::BadSignature`].
    pub fn verify(&self, group: &GroupId) -> Result<(), CertificateError> {
        let message = signed_message(group, &self.signed.statement);
        if verify_signature(&self.statement.inviter, &message, &self.signed.signature) {
            Ok(())
        } else {
            Err(CertificateError::BadSignature)
        }
    }

    /// The certificate in a joiner's first entry, with everything checked that those two show: an
    /// authenticated `JOIN` or `PAPER` of seq 1, by the device on the card, sealed under the certificate's
    /// epoch, signed by the inviter it names. Left to the caller: that the inviter is a member
    /// there, and that the sender tag is free.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn of_entry(entry: &Authenticated) -> Result<Self, CertificateError> {
        if !matches!(entry.kind, Kind::JOIN | Kind::PAPER) || entry.seq != 1 || !entry.prev.is_zero() {
            return Err(CertificateError::NotAFirstEntry);
        }
        let certificate = Self::from_bytes(&entry.body)?;
        if certificate.card().keys.device != entry.sender {
            return Err(CertificateError::AnotherDevice);
        }
        if certificate.epoch() != entry.header().epoch {
            return Err(CertificateError::AnotherEpoch);
        }
        certificate.verify(entry.group())?;
        Ok(certificate)
    }

    /// Who joins.
    #[must_use]
    pub const fn card(&self) -> &Card {
        &self.statement.card
    }

    /// The epoch in which it is valid.
    #[must_use]
    pub const fn epoch(&self) -> EpochId {
        self.statement.epoch
    }

    /// Who invited.
    #[must_use]
    pub const fn inviter(&self) -> DeviceId {
        self.statement.inviter
    }
}

/// Travels as its [`SignedStatement`].
impl Wire for JoinCertificate {
    fn write(&self, out: &mut Writer<'_>) {
        self.signed.write(out);
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, WireError> {
        let signed = SignedStatement::read(bytes)?;
        Ok(Self { statement: wire::decode(&signed.statement)?, signed })
    }
}

fn signed_message(group: &GroupId, statement: &[u8]) -> Vec<u8> {
    [label::SIGN_CERTIFICATE, &group.0, statement].concat()
}
