//! What a person brings to the joining device: a link or a code.

use std::fmt;
use std::str::FromStr;

use zerok_sync_protocol::NoisePublicKey;

use crate::code::{CodeError, PairingCode};
use crate::io::RelayAddress;
use crate::link::{InviteLink, LinkError};
use crate::origin::Origin;

/// An invitation, as it was given to the joining device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invite {
    /// A link, or the QR code of one: says everything.
    Link(InviteLink),
    /// A code: does not say at which relay.
    Code(PairingCode),
}

/// In what form to invite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InviteKind {
    /// A link that this page opens; the relay's own by default.
    Link {
        /// `https://…` or [`crate::link::PROGRAM_BASE`].
        base: Option<String>,
    },
    /// A code.
    Code,
}

/// Why nothing can be joined with what was given. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// A link that cannot be used.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A code that cannot be used.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// A code without a relay.
    #[error("a code does not say which relay it is at: name the one that the inviting device uses")]
    RelayNeeded,
    /// The relay that was named is no address.
    #[error("{0:?} is not the address of a relay: give it as https://host or http://host:port")]
    NotARelayAddress(String),
}

impl Invite {
    /// Where the mailbox is: a link says it, with a code the person has to. A key that the person
    /// knows counts more than a link's.
    ///
    /// # Errors
    /// [`InviteError::RelayNeeded`], [`InviteError::NotARelayAddress`].
    pub fn relay(&self, url: Option<&str>, key: Option<NoisePublicKey>) -> Result<RelayAddress, InviteError> {
        let said = match self {
            Self::Link(link) => link.relay(),
            Self::Code(_) => {
                let url = url.ok_or(InviteError::RelayNeeded)?;
                let origin = Origin::parse(url).map_err(|_| InviteError::NotARelayAddress(url.to_owned()))?;
                RelayAddress { url: origin.as_str().to_owned(), key: None }
            }
        };
        Ok(RelayAddress { key: key.or(said.key), ..said })
    }
}

/// Writes the secret: the link or the code itself.
impl fmt::Display for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(link) => link.fmt(f),
            Self::Code(code) => code.fmt(f),
        }
    }
}

impl FromStr for Invite {
    type Err = InviteError;

    /// No code has the characters that every link has.
    fn from_str(text: &str) -> Result<Self, InviteError> {
        if text.contains(['#', ':', '/']) { Ok(Self::Link(text.parse()?)) } else { Ok(Self::Code(text.parse()?)) }
    }
}

#[cfg(test)]
mod tests {
    use zerok_sync_protocol::MailboxId;
    use zerok_sync_protocol::fuzzing::SeededRng;

    use super::*;
    use crate::link::PairingSecret;

    fn link() -> Invite {
        let relay = RelayAddress { url: "https://relay.example".into(), key: Some(NoisePublicKey([7; 32])) };
        let mailbox = MailboxId::from_slice(&[3; 16]).expect("16 bytes");
        Invite::Link(InviteLink::new(None, &relay, mailbox, PairingSecret::from_bytes([9; 32])).expect("valid"))
    }

    fn code() -> Invite {
        let mailbox = MailboxId::from_slice(&[1, 2]).expect("2 bytes");
        Invite::Code(PairingCode::generate(mailbox, &mut SeededRng::new(b"code")).expect("15 bits"))
    }

    #[test]
    fn links_and_codes_are_told_apart_by_themselves() {
        for invite in [link(), code()] {
            assert_eq!(invite.to_string().parse(), Ok(invite));
        }
        assert_eq!("https://relay.example".parse::<Invite>(), Err(InviteError::Link(LinkError::NotALink)));
        assert_eq!("hello".parse::<Invite>(), Err(InviteError::Code(CodeError::WrongLength { found: 5 })));
    }

    #[test]
    fn a_link_says_where_its_relay_is_and_a_code_must_be_told() {
        let own = link().relay(None, None).expect("in the link");
        assert_eq!(own.url, "https://relay.example");
        assert!(own.key.is_some());
        assert_eq!(code().relay(None, None), Err(InviteError::RelayNeeded));
        let named = code().relay(Some("https://Relay.example/"), None).expect("an address");
        assert_eq!(named, RelayAddress { url: "https://relay.example".into(), key: None });
        assert!(matches!(code().relay(Some("relay"), None), Err(InviteError::NotARelayAddress(_))));
    }

    #[test]
    fn a_relay_named_for_codes_changes_no_link() {
        let named = link().relay(Some("http://127.0.0.1:1234"), None).expect("an address");
        assert_eq!((named.url.as_str(), named.key), ("https://relay.example", Some(NoisePublicKey([7; 32]))));
        let key = NoisePublicKey([8; 32]);
        assert_eq!(link().relay(None, Some(key)).expect("an address").key, Some(key));
    }
}
