//! Who is there: told by their own words, and by nothing that a relay kept.

use bytes::Bytes;
use zerok_sync_chaos::sim::World;
use zerok_sync_core::keys::{Membership, MembershipSeed};
use zerok_sync_core::statement::{self, SessionId, Whisper, WhisperBody};
use zerok_sync_core::{Event, WhisperError};
use zerok_sync_protocol::RelayFrame;
use zerok_sync_protocol::wire::List;

/// Longer than an answer takes.
const A_MOMENT_MS: u64 = 3_000;

fn sees(world: &mut World, at: usize, of: usize) -> bool {
    let id = world.keys(of).0.device();
    let members = world.engine(at).status().members;
    members.iter().any(|member| member.device == id && member.online)
}

fn whisper(world: &mut World, device: usize, text: &'static str) -> Result<(), WhisperError> {
    let now = world.now_at(device);
    let said = world.engine(device).whisper(now, Bytes::from_static(text.as_bytes()));
    world.drain(device);
    said
}

fn heard(world: &World, device: usize) -> Vec<String> {
    let said = world.devices[device].events.iter().filter_map(|event| match event {
        Event::Whispered { data, .. } => Some(String::from_utf8_lossy(data).into_owned()),
        _ => None,
    });
    said.collect()
}

/// Everything that was ever whispered, again.
fn replay_everything(world: &mut World) {
    for data in world.relay.whispers.clone() {
        world.relay_says(&RelayFrame::Whispered { data });
        world.advance(10);
    }
}

/// The connection of a device, as its whispers name it.
fn session_of(world: &World, device: usize) -> SessionId {
    let (me, keyring) = world.keys(device);
    let whispers = world.relay.whispers.iter().filter_map(|data| statement::open::<Whisper>(&keyring, data).ok());
    whispers.filter(|whisper| whisper.sender == me.device()).last().expect("it whispered").session
}

#[test]
fn who_is_no_member_is_not_heard_although_it_has_the_keys_and_answers_this_connection() {
    let mut world = World::with_group(2);
    world.advance(A_MOMENT_MS);
    let (member, keyring) = world.keys(1);
    let stranger = Membership::from_seed(&MembershipSeed::from_bytes([0xaa; 32]));
    for (speaker, text) in [(&stranger, "a stranger"), (&member, "a member")] {
        let said = Whisper {
            sender: speaker.device(),
            session: SessionId([7; 16]),
            counter: 1,
            echo: vec![session_of(&world, 0)].try_into().expect("one fits"),
            body: WhisperBody::App { data: Bytes::from_static(text.as_bytes()) },
        };
        let data = statement::seal(keyring.group(), keyring.current(), &speaker.signing, [7; 24], &said);
        world.relay_says(&RelayFrame::Whispered { data });
        world.settle();
    }
    assert_eq!(heard(&world, 0), ["a member"]);
}

#[test]
fn devices_that_are_connected_see_each_other_and_who_comes_later() {
    let mut world = World::with_group(2);
    world.advance(A_MOMENT_MS);
    assert!(sees(&mut world, 0, 1) && sees(&mut world, 1, 0));
    world.pair(0, "device 2");
    world.advance(A_MOMENT_MS);
    for (at, of) in [(0, 2), (2, 0), (1, 2), (2, 1)] {
        assert!(sees(&mut world, at, of), "{at} does not see {of}");
    }
}

#[test]
fn who_says_goodbye_is_gone_at_once() {
    let mut world = World::with_group(2);
    world.advance(A_MOMENT_MS);
    let now = world.now_at(1);
    world.engine(1).close(now);
    world.drain(1);
    world.settle();
    assert!(!sees(&mut world, 0, 1));
}

#[test]
fn who_just_goes_silent_is_gone_after_a_while_and_who_stays_is_not() {
    let mut world = World::with_group(3);
    world.advance(A_MOMENT_MS);
    world.crash(1);
    world.advance(10_000);
    assert!(sees(&mut world, 0, 1), "that may be a bad connection");
    world.advance(90_000);
    assert!(!sees(&mut world, 0, 1));
    assert!(sees(&mut world, 0, 2), "it says so again and again");
}

#[test]
fn an_answer_that_was_lost_is_made_good() {
    let mut world = World::with_group(1);
    world.relay.hush = true;
    world.pair(0, "device 1");
    world.relay.hush = false;
    world.cut(1);
    world.relay.hush = true;
    world.advance(20_000);
    world.relay.hush = false;
    world.cut(0);
    world.advance(60_000);
    assert!(sees(&mut world, 0, 1) && sees(&mut world, 1, 0));
}

#[test]
fn nothing_that_was_recorded_brings_a_device_back() {
    let mut world = World::with_group(2);
    world.advance(A_MOMENT_MS);
    whisper(&mut world, 1, "once").expect("connected");
    world.settle();
    assert_eq!(heard(&world, 0), ["once"]);
    world.crash(1);
    world.advance(120_000);
    assert!(!sees(&mut world, 0, 1));
    replay_everything(&mut world);
    assert!(!sees(&mut world, 0, 1), "in the connection it was said to");

    world.cut(0);
    world.advance(60_000);
    replay_everything(&mut world);
    assert!(!sees(&mut world, 0, 1), "in another one");
    assert_eq!(heard(&world, 0), ["once"]);
}

#[test]
fn a_goodbye_played_again_or_made_up_sends_nobody_away() {
    let mut world = World::with_group(2);
    world.advance(A_MOMENT_MS);
    let now = world.now_at(1);
    world.engine(1).close(now);
    world.drain(1);
    world.settle();
    let now = world.now_at(1);
    world.engine(1).start(now);
    world.drain(1);
    world.advance(A_MOMENT_MS);
    assert!(sees(&mut world, 0, 1));
    replay_everything(&mut world);
    let (first, keyring) = world.keys(0);
    let bye = Whisper {
        sender: world.keys(1).0.device(),
        session: SessionId([1; 16]),
        counter: u64::MAX,
        echo: List::empty(),
        body: WhisperBody::Bye {},
    };
    let data = statement::seal(keyring.group(), keyring.current(), &first.signing, [1; 24], &bye);
    world.relay_says(&RelayFrame::Whispered { data });
    world.settle();
    assert!(sees(&mut world, 0, 1));
}

#[test]
fn a_flood_of_old_words_is_answered_once_a_second() {
    let mut world = World::with_group(2);
    for _ in 0..20 {
        world.cut(1);
        world.advance(5_000);
    }
    world.crash(1);
    let recorded = world.relay.whispers.clone();
    let sent_before = world.relay.whispers.len();
    let begun_ms = world.now_ms();
    for _ in 0..50 {
        for data in &recorded {
            world.relay_says(&RelayFrame::Whispered { data: data.clone() });
        }
        world.advance(100);
    }
    let seconds = (world.now_ms() - begun_ms).div_ceil(1_000) as usize;
    let answers = world.relay.whispers.len() - sent_before;
    assert!(answers <= seconds + 2, "{answers} answers in {seconds} seconds");
}

#[test]
fn a_whisper_reaches_who_is_there_and_has_its_limits() {
    let mut world = World::with_group(2);
    world.advance(A_MOMENT_MS);
    whisper(&mut world, 0, "typing").expect("connected");
    world.settle();
    assert_eq!(heard(&world, 1), ["typing"]);
    let now = world.now_at(0);
    let too_large = world.engine(0).whisper(now, vec![0; 1_025].into());
    assert_eq!(too_large, Err(WhisperError::TooLarge { bytes: 1_025, bytes_max: 1_024 }));
    let said: Vec<_> = (0..30).map(|_| whisper(&mut world, 0, "more")).collect();
    assert!(said.contains(&Err(WhisperError::TooOften)) && said[0].is_ok(), "{said:?}");
    world.crash(1);
    world.cut(0);
    world.settle();
    assert_eq!(whisper(&mut world, 0, "nobody"), Err(WhisperError::NotConnected));
}

#[test]
fn a_device_on_its_own_whispers_nothing() {
    let mut world = World::with_group(1);
    world.advance(300_000);
    assert_eq!(world.relay.whispers.len(), 0);
}

#[test]
fn a_relay_that_takes_no_more_whispers_ends_no_session() {
    let mut world = World::with_group(2);
    world.advance(A_MOMENT_MS);
    let code = zerok_sync_protocol::ErrorCode::RateLimited.number();
    world.relay_says(&RelayFrame::Error { code, retry_after_ms: 5_000, detail: String::new() });
    world.settle();
    assert_eq!(world.engine(0).status().connection, zerok_sync_core::Connection::Live);
    assert_eq!(whisper(&mut world, 0, "too soon"), Err(WhisperError::TooOften));
    world.advance(10_000);
    whisper(&mut world, 0, "now").expect("after the pause");
}
