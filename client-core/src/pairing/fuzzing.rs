//! Parsers that a stranger with a link, or a text field, can reach.

use zerok_sync_protocol::channel::Initiator;
use zerok_sync_protocol::fuzzing::SeededRng;
use zerok_sync_protocol::{MailboxId, wire};

use super::digits::commitment;
use super::grant::{Grant, Granted};
use super::message::Answer;
use super::{Digits, InviterPairing, InviterStep, JoinerPairing, PairingMode, pairing_psk, prologue};
use crate::certificate::Card;
use crate::code::PairingCode;
use crate::fixtures::membership;
use crate::invite::Invite;
use crate::link::InviteLink;

const SECRET: [u8; 32] = [0x51; 32];

/// Any text as an invitation: an error, or a link that survives another round.
pub fn invite_link(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(link) = text.parse::<InviteLink>() {
        assert_eq!(link.to_string().parse(), Ok(link));
    }
}

/// Any text as a code, or as either kind of invitation: an error, or something that survives
/// another round.
pub fn pairing_code(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(code) = text.parse::<PairingCode>() {
        assert_eq!(code.to_string().parse(), Ok(code));
    }
    if let Ok(invite) = text.parse::<Invite>() {
        assert_eq!(invite.to_string().parse(), Ok(invite));
    }
    if let Ok(digits) = text.parse::<Digits>() {
        assert_eq!(digits.to_string().parse(), Ok(digits));
    }
}

/// What the channel carries. Mode 0: a mailbox message to a waiting inviter. Mode 1: the payload of
/// message 3 by somebody who holds the link. Mode 2: message 4's plaintext at the joiner. Mode 3: a mailbox message to an inviter and to a joiner that
/// wait for a code's share.
/// Input: mode (1) ‖ bytes.
pub fn pairing(data: &[u8]) {
    let Some((mode, bytes)) = data.split_first() else { return };
    match mode % 4 {
        0 => {
            let step = invitation().receive(bytes, &mut SeededRng::new(b"inviter"));
            assert!(!matches!(step, Ok(InviterStep::Ask { .. } | InviterStep::Accepted { .. })));
        }
        1 => introduce(bytes),
        3 => {
            let mailbox = MailboxId::from_slice(&[1, 2]).expect("2 bytes");
            let mut rng = SeededRng::new(b"code");
            let code = PairingCode::generate(mailbox, &mut rng).expect("15 bits");
            let mut inviter = InviterPairing::by_code(code.clone(), &[3; 16], membership(1));
            let answered = inviter.receive(bytes, &mut rng).is_ok();
            let name = "phone".parse().expect("a name");
            let (mut joiner, _) = JoinerPairing::by_code(&code, &[3; 16], membership(2), name, &mut rng);
            assert_eq!(joiner.receive(bytes, &mut rng).is_ok(), answered, "both sides know what a share is");
        }
        _ => {
            if let Ok(Answer::Granted { grant, signature }) = wire::decode(bytes) {
                let card = Card { keys: membership(2).keys, name: "phone".parse().expect("a name") };
                // The corpus's one was signed for this very hash.
                let _ = Granted::check(&grant, &signature, &[0x33; 32], &membership(1).keys.noise, &card);
            }
            if let Ok(grant) = wire::decode::<Grant>(bytes) {
                assert_eq!(wire::decode(&wire::encode(&grant)), Ok(grant));
            }
        }
    }
}

/// A well-made message 3 around any payload: an error, or a card of the key that sent it.
fn introduce(payload: &[u8]) {
    let mut inviter = invitation();
    let stranger = membership(2);
    let (joiner, m1) = Initiator::pairing(
        &stranger.noise,
        pairing_psk(&SECRET),
        &prologue(PairingMode::Link, &mailbox()),
        &commitment(&[4; 32]),
        &mut SeededRng::new(b"joiner"),
    )
    .expect("it fits");
    let Ok(InviterStep::Send(m2)) = inviter.receive(&m1, &mut SeededRng::new(b"inviter")) else {
        panic!("message 1 is sound")
    };
    let joiner = joiner.read(&m2).expect("message 2 is sound");
    let Ok((m3, _)) = joiner.finish(payload) else { return };
    if let Ok(step) = inviter.receive(&m3, &mut SeededRng::new(b"inviter")) {
        let InviterStep::Ask { card } = step else { panic!("message 3 only asks") };
        assert_eq!(card.keys.noise, stranger.keys.noise);
    }
}

fn invitation() -> InviterPairing {
    InviterPairing::by_link(&mailbox(), pairing_psk(&SECRET), membership(1))
}

fn mailbox() -> MailboxId {
    MailboxId::from_slice(&[0xab; 16]).expect("16 bytes")
}

/// One valid input of each kind.
#[cfg(test)]
pub(crate) fn seeds(target: &str) -> Vec<(&'static str, Vec<u8>)> {
    use super::message::{Introduction, JoinerNonce, sign_card};
    use super::tests::honest_answer;
    use crate::io::RelayAddress;
    use crate::link::PairingSecret;

    match target {
        "invite_link" => {
            let key = Some(zerok_sync_protocol::NoisePublicKey([7; 32]));
            let relay = RelayAddress { url: "https://relay.example".into(), key };
            let link = |base| {
                let secret = PairingSecret::from_bytes(SECRET);
                InviteLink::new(base, &relay, mailbox(), secret).expect("valid").to_string().into_bytes()
            };
            vec![("own-page", link(None)), ("program", link(Some("zerok://pair")))]
        }
        "pairing_code" => {
            let mailbox = MailboxId::from_slice(&[0x12, 0x34]).expect("2 bytes");
            let code = PairingCode::generate(mailbox, &mut SeededRng::new(b"code")).expect("15 bits").to_string();
            vec![
                ("code", code.clone().into_bytes()),
                ("typed", code.to_lowercase().replace('-', " ").into_bytes()),
                ("digits", b"07".to_vec()),
            ]
        }
        "pairing" => {
            let card = wire::encode(&Card { keys: membership(2).keys, name: "phone".parse().expect("a name") });
            let signature = sign_card(&membership(2).signing, &[0; 32], &card);
            let introduction = Introduction { nonce: JoinerNonce([4; 32]), card: card.into(), signature };
            let answer = wire::encode(&honest_answer());
            vec![
                ("introduction", [&[1], &wire::encode(&introduction)[..]].concat()),
                ("answer", [&[2], &answer[..]].concat()),
                ("declined", [&[2], &wire::encode(&Answer::Declined {})[..]].concat()),
                ("wrong-digits", [&[2], &wire::encode(&Answer::WrongDigits {})[..]].concat()),
                ("share", [&[3], &curve25519_dalek::constants::RISTRETTO_BASEPOINT_COMPRESSED.to_bytes()[..]].concat()),
            ]
        }
        other => panic!("no seeds for {other}"),
    }
}
