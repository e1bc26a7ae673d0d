//! Invitation links: `https://app.example/pair#0k1.…`, everything needed to join in one text.
//!
//! The part before `#` is the page that opens the link (or `zerok://pair`, for a program); the
//! fragment, which browsers never send to a server, is `0k1.` and base64url (no padding) of
//! `array ‖ checksum`: a MessagePack array `[version, relay URL or nil, relay key, mailbox id,
//! secret]` and the first four bytes of `BLAKE3("0k-sync/1 link" ‖ array)`. A nil relay URL means
//! the page's own origin. The checksum tells a link that was cut off from a wrong one; it protects
//! nothing.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};
use zerok_sync_protocol::wire::{self, Reader, Wire, WireError, Writer};
use zerok_sync_protocol::{MailboxId, NoisePublicKey, wire_struct};

use crate::io::RelayAddress;
use crate::label;
use crate::origin::Origin;

/// Longest text that is looked at.
pub const LINK_BYTES_MAX: usize = 2 * 1024;
/// Longest page address in front of the fragment.
pub const BASE_BYTES_MAX: usize = 1024;
/// The base of a link that no page opens.
pub const PROGRAM_BASE: &str = "zerok://pair";

const CHECKSUM_BYTES: usize = 4;
/// Version of the array, its first item.
const VERSION: u8 = 1;
/// What a fragment of this version begins with: the encoding around the array.
const PREFIX: &str = "0k1.";

/// Why a text is not an invitation that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Something else altogether.
    #[error("this is not an invitation link: it should look like https://…#0k1.…")]
    NotALink,
    /// The checksum does not fit.
    #[error("this link is cut off or damaged: copy the whole of it, up to the last character")]
    CutOff,
    /// Made by a newer version.
    #[error("this link was made by a newer version: update this device")]
    Newer,
    /// The link has no relay key.
    #[error("this link does not say which key its relay has: make a new invitation")]
    RelayKeyMissing,
    /// Over [`LINK_BYTES_MAX`].
    #[error("this text is too long for an invitation link: copy the link alone")]
    TooLong,
    /// The array inside the link does not hold what it should, though nothing was cut off.
    #[error("this link holds something that no inviting device writes: make a new invitation")]
    Invalid,
    /// The page that should open the link has an address that cannot carry it.
    #[error("the page that opens the link must be http://… or https://…, without a # and at most 1024 characters")]
    BadBase,
}

/// 32 random bytes that only the two devices know: who holds them may start the pairing handshake.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PairingSecret([u8; 32]);

impl PairingSecret {
    /// Takes over these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A new secret from 32 bytes of `rng`.
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        let mut secret = Self([0; 32]);
        rng.fill_bytes(&mut secret.0);
        secret
    }

    /// The bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for PairingSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PairingSecret([redacted])")
    }
}

impl PartialEq for PairingSecret {
    fn eq(&self, other: &Self) -> bool {
        use subtle::ConstantTimeEq;
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for PairingSecret {}

impl Wire for PairingSecret {
    fn write(&self, out: &mut Writer<'_>) {
        out.bytes(&self.0);
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, WireError> {
        bytes.array().map(Self)
    }
}

mod body {
    use super::{MailboxId, NoisePublicKey, PairingSecret, wire_struct};

    wire_struct! {
        /// The array inside a link.
        pub struct LinkBody {
            version: u8,
            relay_url: Option<String>,
            relay_key: Option<NoisePublicKey>,
            mailbox: MailboxId,
            secret: PairingSecret,
        }
    }

    wire_struct! {
        /// The first item of every version's array.
        pub struct Version { version: u8 }
    }
}
use body::{LinkBody, Version};

/// An invitation: where the two devices meet, and the secret by which they know each other.
///
/// `Display` writes the link itself, secret included; `Debug` does not.
#[derive(Clone, PartialEq, Eq)]
pub struct InviteLink {
    base: String,
    relay_url: String,
    relay_key: NoisePublicKey,
    mailbox: MailboxId,
    secret: PairingSecret,
}

impl InviteLink {
    /// A link to a mailbox that was just opened. `base` is the page that opens it, by default the
    /// relay's own; [`PROGRAM_BASE`] makes a link for programs only.
    ///
    /// # Errors
    /// [`LinkError::BadBase`]; [`LinkError::RelayKeyMissing`] when the relay's key is not known;
    /// [`LinkError::Invalid`] when its address is not an origin, or the mailbox id a typed one.
    pub fn new(
        base: Option<&str>,
        relay: &RelayAddress,
        mailbox: MailboxId,
        secret: PairingSecret,
    ) -> Result<Self, LinkError> {
        let relay_key = relay.key.ok_or(LinkError::RelayKeyMissing)?;
        let relay_url = Origin::parse(&relay.url).map_err(|_| LinkError::Invalid)?.as_str().to_owned();
        if mailbox.as_bytes().len() != MailboxId::LONG_LEN {
            return Err(LinkError::Invalid);
        }
        let base = match base {
            None => format!("{relay_url}/"),
            Some(base) => {
                check_base(base).map_err(|_| LinkError::BadBase)?;
                base.to_owned()
            }
        };
        Ok(Self { base, relay_url, relay_key, mailbox, secret })
    }

    /// What stands before the `#`.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The relay where the mailbox is, with its key.
    #[must_use]
    pub fn relay(&self) -> RelayAddress {
        RelayAddress { url: self.relay_url.clone(), key: Some(self.relay_key) }
    }

    /// The mailbox.
    #[must_use]
    pub fn mailbox(&self) -> &MailboxId {
        &self.mailbox
    }

    /// The secret.
    #[must_use]
    pub fn secret(&self) -> &PairingSecret {
        &self.secret
    }
}

impl fmt::Debug for InviteLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InviteLink")
            .field("base", &self.base)
            .field("relay_url", &self.relay_url)
            .field("relay_key", &self.relay_key)
            .field("mailbox", &self.mailbox)
            .field("secret", &self.secret)
            .finish()
    }
}

impl fmt::Display for InviteLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let page_is_relay = origin_of(&self.base).is_some_and(|origin| origin.as_str() == self.relay_url);
        let body = LinkBody {
            version: VERSION,
            relay_url: (!page_is_relay).then(|| self.relay_url.clone()),
            relay_key: Some(self.relay_key),
            mailbox: self.mailbox.clone(),
            secret: self.secret.clone(),
        };
        let mut bytes = Zeroizing::new(wire::encode(&body));
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(&*bytes));
        write!(f, "{}#{PREFIX}{}", self.base, *encoded)
    }
}

impl FromStr for InviteLink {
    type Err = LinkError;

    /// Reads a link as people paste it: white space around and inside it (from a line break in a
    /// message) is skipped.
    fn from_str(text: &str) -> Result<Self, LinkError> {
        if text.len() > LINK_BYTES_MAX {
            return Err(LinkError::TooLong);
        }
        let text: Zeroizing<String> = Zeroizing::new(text.chars().filter(|c| !c.is_ascii_whitespace()).collect());
        let (base, fragment) = text.split_once('#').ok_or(LinkError::NotALink)?;
        check_base(base)?;
        let encoded = match fragment.strip_prefix(PREFIX) {
            Some(encoded) => encoded,
            None => return Err(foreign_fragment(fragment)),
        };
        let body = decode_body(encoded)?;
        let relay_url = match &body.relay_url {
            Some(url) => Origin::parse(url).map_err(|_| LinkError::Invalid)?,
            None => origin_of(base).ok_or(LinkError::Invalid)?,
        };
        if body.mailbox.as_bytes().len() != MailboxId::LONG_LEN {
            return Err(LinkError::Invalid);
        }
        Ok(Self {
            base: base.to_owned(),
            relay_url: relay_url.as_str().to_owned(),
            relay_key: body.relay_key.ok_or(LinkError::RelayKeyMissing)?,
            mailbox: body.mailbox,
            secret: body.secret,
        })
    }
}

fn decode_body(encoded: &str) -> Result<LinkBody, LinkError> {
    // A character that is not base64url is as likely the end of a sentence as an accident.
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| LinkError::CutOff)?);
    let (array, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(LinkError::CutOff)?;
    if checksum(array) != *sum {
        return Err(LinkError::CutOff);
    }
    // The version alone first: of a newer array nothing else can be expected.
    let version = wire::decode::<Version>(array).map_err(|_| LinkError::Invalid)?.version;
    match version {
        VERSION => wire::decode(array).map_err(|_: WireError| LinkError::Invalid),
        0 => Err(LinkError::Invalid),
        _ => Err(LinkError::Newer),
    }
}

/// What a fragment without [`PREFIX`] is: a newer link's, the beginning of one of ours, or nothing
/// of ours.
fn foreign_fragment(fragment: &str) -> LinkError {
    let version = fragment.strip_prefix("0k").and_then(|rest| rest.split_once('.')).map(|(version, _)| version);
    match version {
        Some(version) if !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit()) => LinkError::Newer,
        _ if PREFIX.starts_with(fragment) => LinkError::CutOff,
        _ => LinkError::NotALink,
    }
}

fn checksum(array: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hash = blake3::Hasher::new();
    hash.update(label::LINK).update(array);
    let mut sum = [0; CHECKSUM_BYTES];
    hash.finalize_xof().fill(&mut sum);
    sum
}

/// A page that can carry a fragment: a URL whose characters no reader of it changes.
fn check_base(base: &str) -> Result<(), LinkError> {
    if base == PROGRAM_BASE {
        return Ok(());
    }
    if base.len() > BASE_BYTES_MAX {
        return Err(LinkError::TooLong);
    }
    let is_plain = base.bytes().all(|byte| byte.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&byte));
    if !is_plain || origin_of(base).is_none() {
        return Err(LinkError::NotALink);
    }
    Ok(())
}

fn origin_of(base: &str) -> Option<Origin> {
    Origin::split(base).ok().map(|(origin, _)| origin)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn relay(url: &str) -> RelayAddress {
        RelayAddress { url: url.into(), key: Some(NoisePublicKey([7; 32])) }
    }

    fn mailbox() -> MailboxId {
        MailboxId::from_slice(&[3; 16]).expect("16 bytes")
    }

    fn link(base: Option<&str>, url: &str) -> InviteLink {
        InviteLink::new(base, &relay(url), mailbox(), PairingSecret::from_bytes([9; 32])).expect("valid")
    }

    fn parse(text: &str) -> Result<InviteLink, LinkError> {
        text.parse()
    }

    /// A link around any array, with a checksum that fits.
    fn around(array: &impl Wire) -> String {
        let array = wire::encode(array);
        format!("https://app.example#{PREFIX}{}", URL_SAFE_NO_PAD.encode([&array[..], &checksum(&array)].concat()))
    }

    #[test]
    fn a_link_says_everything_needed_to_join() {
        for base in [None, Some("https://app.example/pair?x=1"), Some("http://localhost:5173"), Some(PROGRAM_BASE)] {
            let link = link(base, "https://relay.example:8443");
            assert_eq!(parse(&link.to_string()).as_ref(), Ok(&link));
            assert_eq!(link.relay(), relay("https://relay.example:8443"));
        }
    }

    #[test]
    fn the_relay_is_not_named_twice_when_its_own_page_opens_the_link() {
        let own = link(Some("https://relay.example/pair"), "https://relay.example").to_string();
        let other = link(Some("https://application.example"), "https://relay.example").to_string();
        assert!(own.len() + 20 < other.len(), "{own}\n{other}");
        assert_eq!(parse(&own).expect("valid").relay().url, "https://relay.example");
    }

    #[test]
    fn everything_secret_stands_behind_the_hash_sign() {
        let link = link(None, "https://relay.example");
        assert_eq!(link.to_string().split_once('#').map(|(page, _)| page.to_owned()), Some(link.base().to_owned()));
        assert_eq!(link.base(), "https://relay.example/");
        assert!(!format!("{link:?}").contains("9, 9"), "{link:?}");
    }

    #[test]
    fn a_link_that_lost_its_end_is_called_cut_off() {
        let text = link(None, "https://relay.example").to_string();
        let fragment = text.find('#').expect("there is one") + 1;
        for end in fragment..text.len() {
            assert_eq!(parse(&text[..end]), Err(LinkError::CutOff), "{}", &text[..end]);
        }
        assert_eq!(parse(&text[..fragment - 1]), Err(LinkError::NotALink));
        assert_eq!(parse(&format!("{text}.")), Err(LinkError::CutOff));
    }

    #[test]
    fn line_breaks_inside_a_pasted_link_do_no_harm() {
        let link = link(None, "https://relay.example");
        let text = link.to_string();
        assert_eq!(parse(&format!("  {}\r\n {}\n", &text[..60], &text[60..])), Ok(link));
    }

    #[test]
    fn a_newer_link_is_called_newer() {
        assert_eq!(parse(&around(&(2u8, "what ever".to_owned()))), Err(LinkError::Newer));
        assert_eq!(parse("https://app.example#0k2.AAAA"), Err(LinkError::Newer));
        assert_eq!(parse("https://app.example#0k13.AAAA"), Err(LinkError::Newer));
    }

    #[test]
    fn a_link_without_a_relay_key_is_refused() {
        let body = LinkBody {
            version: VERSION,
            relay_url: None,
            relay_key: None,
            mailbox: mailbox(),
            secret: PairingSecret::from_bytes([9; 32]),
        };
        assert_eq!(parse(&around(&body)), Err(LinkError::RelayKeyMissing));
        let keyless = RelayAddress { key: None, ..relay("https://relay.example") };
        let made = InviteLink::new(None, &keyless, mailbox(), PairingSecret::from_bytes([9; 32]));
        assert_eq!(made, Err(LinkError::RelayKeyMissing));
    }

    #[test]
    fn arrays_that_hold_something_else_are_refused() {
        let body = |relay_url: Option<&str>, mailbox: &[u8]| LinkBody {
            version: VERSION,
            relay_url: relay_url.map(str::to_owned),
            relay_key: Some(NoisePublicKey([7; 32])),
            mailbox: MailboxId::from_slice(mailbox).expect("a valid length"),
            secret: PairingSecret::from_bytes([9; 32]),
        };
        assert!(parse(&around(&body(Some("https://relay.example"), &[3; 16]))).is_ok());
        assert_eq!(parse(&around(&body(Some("ftp://relay.example"), &[3; 16]))), Err(LinkError::Invalid));
        assert_eq!(parse(&around(&body(Some("https://relay.example"), &[3; 2]))), Err(LinkError::Invalid));
        assert_eq!(parse(&around(&(1u8, "too short".to_owned()))), Err(LinkError::Invalid));
        assert_eq!(parse(&around(&"no array".to_owned())), Err(LinkError::Invalid));
        let program = around(&body(None, &[3; 16])).replace("https://app.example", PROGRAM_BASE);
        assert_eq!(parse(&program), Err(LinkError::Invalid));
    }

    #[test]
    fn what_is_no_link_is_called_that() {
        for text in
            ["", "hello", "https://app.example", "https://app.example#section", "ftp://app.example#0k1.AAAA", "#0k1."]
        {
            assert_eq!(parse(text), Err(LinkError::NotALink), "{text}");
        }
        assert_eq!(parse(&"x".repeat(LINK_BYTES_MAX + 1)), Err(LinkError::TooLong));
    }

    #[test]
    fn a_page_that_cannot_carry_a_fragment_is_refused() {
        for base in ["", "app.example", "https://app.example/#x", "https://app.example/\u{e4}", "zerok://other"] {
            let made = InviteLink::new(Some(base), &relay("https://relay.example"), mailbox(), PairingSecret([9; 32]));
            assert_eq!(made, Err(LinkError::BadBase), "{base}");
        }
    }

    proptest! {
        #[test]
        fn every_link_survives_its_text(
            base in proptest::option::of("https?://[a-z]{1,20}\\.[a-z]{2,5}(:[1-9][0-9]{0,3})?(/[a-z0-9/?=&-]{0,60})?"),
            url in "https?://[a-z]{1,20}\\.[a-z]{2,5}(:[1-9][0-9]{0,3})?",
            key: [u8; 32], mailbox: [u8; 16], secret: [u8; 32],
        ) {
            let relay = RelayAddress { url, key: Some(NoisePublicKey(key)) };
            let mailbox = MailboxId::from_slice(&mailbox).expect("16 bytes");
            let link = InviteLink::new(base.as_deref(), &relay, mailbox, PairingSecret(secret)).expect("valid");
            let text = link.to_string();
            prop_assert!(text.len() <= LINK_BYTES_MAX);
            prop_assert_eq!(parse(&text), Ok(link));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "(https://a\\.b#0k1\\.)?\\PC{0,300}") {
            let _ = parse(&text);
        }

        #[test]
        fn a_changed_character_never_gives_another_invitation(at in 0usize..200, with in "[A-Za-z0-9_.-]") {
            let link = link(None, "https://relay.example");
            let text = link.to_string();
            let at = text.find('#').expect("there is one") + 1 + at % (text.len() - text.find('#').expect("one") - 1);
            let mut changed = text.clone();
            changed.replace_range(at..=at, &with);
            if changed != text {
                prop_assert!(parse(&changed).is_err());
            }
        }
    }
}
