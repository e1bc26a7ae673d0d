//! Letting a device in, through the engine: nothing is handed over before a person said so, and
//! both sides learn how it ended.

use zerok_sync_core::{Connection, Digits, Event, Invite, InviteKind, JoinError};

use zerok_sync_chaos::sim::World;

/// What a device that is being let in shows.
fn shown(world: &World, device: usize) -> Digits {
    let shown = world.devices[device].events.iter().rev().find_map(|event| match event {
        Event::ShowDigits { digits } => Some(*digits),
        _ => None,
    });
    shown.expect("the joiner got as far as its digits")
}

fn other_than(digits: Digits) -> Digits {
    let others = (0..100).map(|digits| format!("{digits:02}").parse().expect("two digits"));
    others.into_iter().find(|other| *other != digits).expect("there are 99")
}

fn failures(world: &World, device: usize) -> Vec<JoinError> {
    let failed = |event: &Event| match event {
        Event::InviteFailed(error) | Event::JoinFailed(error) => Some(error.clone()),
        _ => None,
    };
    world.devices[device].events.iter().filter_map(failed).collect()
}

/// An invitation by code that is out; the code.
fn invited_by_code(world: &mut World, inviter: usize) -> Invite {
    let now = world.now();
    world.engine(inviter).invite(now, InviteKind::Code, 600_000);
    world.settle();
    let ready = world.devices[inviter].events.iter().rev().find_map(|event| match event {
        Event::InviteReady { invite, .. } => Some(invite.clone()),
        _ => None,
    });
    ready.expect("the relay opened a mailbox")
}

#[test]
fn the_digits_that_the_joiner_shows_let_it_in() {
    let mut world = World::with_group(1);
    let joiner = world.begin_joining(0, "phone");
    world.settle();
    let (now, digits) = (world.now(), shown(&world, joiner));
    world.engine(0).answer_joiner(now, digits);
    world.settle();
    assert!(world.devices[joiner].events.contains(&Event::Joined), "{:?}", world.devices[joiner].events);
}

#[test]
fn d_pair_01_wrong_digits_end_it_on_both_sides_and_hand_over_nothing() {
    let mut world = World::with_group(1);
    let joiner = world.begin_joining(0, "phone");
    world.settle();
    let (now, digits) = (world.now(), shown(&world, joiner));
    world.engine(0).answer_joiner(now, other_than(digits));
    world.engine(0).answer_joiner(now, digits);
    world.settle();
    assert_eq!(failures(&world, 0), [JoinError::WrongDigits], "the right ones came too late");
    assert_eq!(failures(&world, joiner), [JoinError::WrongDigits]);
    assert!(world.devices[joiner].storage.is_empty());
    assert_eq!(world.engine(0).status().members.len(), 1);
}

#[test]
fn d_pair_01_a_code_lets_one_device_in_once() {
    let mut world = World::with_group(1);
    let code = invited_by_code(&mut world, 0);
    let joiner = world.add_device();
    world.join(joiner, code.clone(), "phone");
    world.settle();
    let (now, digits) = (world.now(), shown(&world, joiner));
    let second = world.add_device();
    world.join(second, code.clone(), "second");
    world.settle();
    world.engine(0).answer_joiner(now, digits);
    world.settle();
    assert!(world.devices[joiner].events.contains(&Event::Joined), "{:?}", world.devices[joiner].events);
    assert!(matches!(failures(&world, second)[..], [JoinError::NoSuchCode { .. }]), "{:?}", failures(&world, second));
    let third = world.add_device();
    world.join(third, code, "third");
    world.settle();
    assert!(matches!(failures(&world, third)[..], [JoinError::NoSuchCode { .. }]), "used");
}

#[test]
fn d_pair_01_a_wrong_code_ends_it_on_both_sides_and_kills_the_code() {
    let mut world = World::with_group(1);
    let Invite::Code(code) = invited_by_code(&mut world, 0) else { panic!("a code was asked for") };
    let guess = guessed(&code);
    let guesser = world.add_device();
    world.join(guesser, Invite::Code(guess), "stranger");
    world.settle();
    assert_eq!(failures(&world, 0), [JoinError::WrongCode]);
    assert_eq!(failures(&world, guesser), [JoinError::WrongCode]);
    let late = world.add_device();
    world.join(late, Invite::Code(code), "phone");
    world.settle();
    assert!(matches!(failures(&world, late)[..], [JoinError::NoSuchCode { .. }]), "{:?}", failures(&world, late));
    assert!(world.devices[guesser].storage.is_empty() && world.devices[late].storage.is_empty());
}

/// Another password for the same mailbox, as somebody would make it who guesses.
fn guessed(code: &zerok_sync_core::PairingCode) -> zerok_sync_core::PairingCode {
    let text: Vec<char> = code.to_string().replace('-', "").chars().collect();
    let alphabet: Vec<char> = "0123456789ABCDEFGHJKMNPQRSTVWXYZ".chars().collect();
    let valid = alphabet.iter().flat_map(|password| alphabet.iter().map(move |check| (*password, *check)));
    let mut guesses = valid.filter_map(|(password, check)| {
        let mut text = text.clone();
        (text[6], text[7]) = (password, check);
        text.into_iter().collect::<String>().parse::<zerok_sync_core::PairingCode>().ok()
    });
    guesses.find(|guess| guess != code).expect("31 others pass the check")
}

#[test]
fn d_pair_01_an_expired_code_is_gone_for_both() {
    let mut world = World::with_group(1);
    let code = invited_by_code(&mut world, 0);
    world.relay.expire_mailboxes();
    // The relay's next answer to anybody takes the news along.
    world.push(0, "x");
    world.settle();
    assert_eq!(failures(&world, 0), [JoinError::Expired]);
    let joiner = world.add_device();
    world.join(joiner, code, "phone");
    world.settle();
    assert!(matches!(failures(&world, joiner)[..], [JoinError::NoSuchCode { .. }]), "{:?}", failures(&world, joiner));
}

#[test]
fn the_inviting_person_is_told_what_would_be_handed_over() {
    let mut world = World::with_group(2);
    world.push(0, "one");
    world.push(1, "two");
    world.settle();
    world.begin_joining(0, "phone");
    world.settle();
    let question = world.devices[0].events.iter().rev().find_map(|event| match event {
        Event::JoinerWaiting { name, entries, members } => Some((name.clone(), *entries, members.len())),
        _ => None,
    });
    assert_eq!(question, Some(("phone".to_owned(), 2, 2)));
}

#[test]
fn a_new_device_reads_what_was_there_before_it() {
    let mut world = World::with_group(1);
    world.push(0, "old");
    world.settle();
    let joiner = world.pair(0, "phone");
    assert_eq!(world.texts(joiner), ["old"]);
    assert_eq!(world.engine(joiner).status().connection, Connection::Live);
}

#[test]
fn a_device_that_joined_can_let_in_the_next() {
    let mut world = World::with_group(2);
    let third = world.pair(1, "third");
    world.push(third, "hello");
    world.settle();
    assert_eq!(world.texts(0), ["hello"]);
    assert_eq!(world.engine(0).status().members.len(), 3);
    assert!((0..3).all(|device| world.findings(device).is_empty()));
}

#[test]
fn a_no_hands_over_nothing_and_tells_both() {
    let mut world = World::with_group(1);
    let joiner = world.begin_joining(0, "phone");
    world.settle();
    let now = world.now();
    world.engine(0).decline_joiner(now);
    world.settle();
    assert!(world.devices[0].events.contains(&Event::InviteFailed(JoinError::Declined)));
    assert!(world.devices[joiner].events.contains(&Event::JoinFailed(JoinError::Declined)));
    assert!(world.devices[joiner].storage.is_empty());
}

#[test]
fn a_cancelled_invitation_is_gone_for_the_joiner() {
    let mut world = World::with_group(1);
    let joiner = world.begin_joining(0, "phone");
    let now = world.now();
    world.engine(0).cancel_invite(now);
    world.settle();
    assert!(world.devices[0].events.contains(&Event::InviteFailed(JoinError::Cancelled)));
    assert!(world.devices[joiner].events.iter().any(|event| matches!(event, Event::JoinFailed(_))));
    assert!(world.devices[joiner].storage.is_empty());
}

#[test]
fn an_inviter_whose_link_breaks_before_the_answer_hands_over_nothing() {
    let mut world = World::with_group(1);
    let joiner = world.begin_joining(0, "phone");
    world.settle();
    world.cut(0);
    world.advance(60_000);
    assert!(world.devices[0].events.iter().any(|event| matches!(event, Event::InviteFailed(_))));
    assert!(world.devices[joiner].events.iter().any(|event| matches!(event, Event::JoinFailed(_))));
    assert!(world.devices[joiner].storage.is_empty());
    assert_eq!(world.engine(0).status().members.len(), 1);
}

#[test]
fn a_joiner_that_crashes_after_the_grant_is_stored_finishes_alone() {
    let mut world = World::with_group(1);
    world.push(0, "old");
    let joiner = world.begin_joining(0, "phone");
    world.settle();
    world.devices[joiner].slow_disk = true;
    let now = world.now();
    world.engine(0).accept_joiner_unchecked(now);
    world.settle();
    assert!(!world.devices[joiner].storage.is_empty(), "the commit was carried out, only not confirmed");
    world.crash(joiner);
    world.devices[joiner].slow_disk = false;
    world.start(joiner);
    world.settle();
    assert_eq!(world.texts(joiner), ["old"]);
    assert_eq!(world.engine(0).status().members.len(), 2);
}

#[test]
fn a_new_device_pushes_only_what_follows_its_join_entry() {
    let mut world = World::with_group(1);
    let joiner = world.pair(0, "phone");
    world.push(joiner, "mine");
    world.settle();
    let entry = world.entries(0).pop().expect("delivered");
    assert_eq!((entry.seq, entry.sender), (2, world.id(joiner)));
}
