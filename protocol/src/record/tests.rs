//! Frames over a real channel: packed, spanned, cut up, too long, out of phase.

use proptest::prelude::*;

use super::*;
use crate::channel::tests::{Handshake, handshake};
use crate::limits::{FRAME_BYTES_MAX_GUEST, FRAME_BYTES_MAX_HELLO, NOISE_MESSAGE_BYTES_MAX};

fn pair(frame_bytes_max: usize) -> (SecureStream, SecureStream) {
    let Handshake { client, relay, .. } = handshake(10);
    (SecureStream::new(client, frame_bytes_max), SecureStream::new(relay, frame_bytes_max))
}

/// Carries everything queued at `from` to `to` and returns what came out, and in how many messages.
fn carry(from: &mut SecureStream, to: &mut SecureStream) -> Result<(Vec<Bytes>, usize), RecordError> {
    let (mut frames, mut messages) = (Vec::new(), 0);
    while let Some(message) = from.poll_transmit() {
        messages += 1;
        assert!(message.len() <= NOISE_MESSAGE_BYTES_MAX);
        to.receive(&message)?;
        while let Some(frame) = to.next_frame()? {
            frames.push(frame);
        }
    }
    Ok((frames, messages))
}

#[test]
fn many_small_frames_share_one_message() {
    let (mut client, mut relay) = pair(FRAME_BYTES_MAX_GUEST);
    for number in 0..100u8 {
        client.send(&[number; 10]).expect("short");
    }
    assert_eq!(client.queued_bytes(), 100 * 14);
    let (frames, messages) = carry(&mut client, &mut relay).expect("honest");
    assert_eq!((frames.len(), messages, client.queued_bytes()), (100, 1, 0));
    assert_eq!(frames[99], [99; 10].as_slice());
}

#[test]
fn a_large_frame_spans_full_messages() {
    let (mut client, mut relay) = pair(2_000_000);
    let large = Bytes::from((0..1_200_000u32).map(|n| n as u8).collect::<Vec<_>>());
    client.send_bytes(large.clone()).expect("under the ceiling");
    let (frames, messages) = carry(&mut client, &mut relay).expect("honest");
    assert_eq!((frames, messages), (vec![large], 1_200_004usize.div_ceil(NOISE_PLAINTEXT_BYTES_MAX)));
}

#[test]
fn an_idle_stream_sends_nothing_and_holds_no_buffer() {
    let (mut client, mut relay) = pair(2_000_000);
    assert_eq!(client.poll_transmit(), None);
    client.send(&[7; 1_000_000]).expect("under the ceiling");
    carry(&mut client, &mut relay).expect("honest");
    assert_eq!(relay.buffered_bytes(), 0);
    assert_eq!(relay.inbound.buffer.capacity(), 0);
    assert_eq!(client.outbound.pieces.capacity(), 0);
}

#[test]
fn a_frame_of_exactly_the_limit_passes_and_one_byte_more_does_not() {
    let (mut client, mut relay) = pair(FRAME_BYTES_MAX_HELLO);
    client.send(&[1; FRAME_BYTES_MAX_HELLO]).expect("short");
    assert_eq!(carry(&mut client, &mut relay).expect("at the limit").0[0].len(), FRAME_BYTES_MAX_HELLO);
    client.send(&[1; FRAME_BYTES_MAX_HELLO + 1]).expect("the sender may know better");
    let refused = RecordError::FrameTooLong { bytes: FRAME_BYTES_MAX_HELLO + 1, max: FRAME_BYTES_MAX_HELLO };
    assert_eq!(carry(&mut client, &mut relay), Err(refused));
}

#[test]
fn a_length_over_the_limit_is_refused_from_its_header_alone() {
    let (mut client, mut relay) = pair(FRAME_BYTES_MAX_HELLO);
    let message = client.channel.seal(&u32::MAX.to_be_bytes()).expect("4 bytes");
    relay.receive(&message).expect("the channel is fine");
    let refused = RecordError::FrameTooLong { bytes: u32::MAX as usize, max: FRAME_BYTES_MAX_HELLO };
    assert_eq!(relay.next_frame(), Err(refused));
    assert_eq!(relay.next_frame(), Err(refused), "and stays refused");
    assert!(relay.inbound.buffer.capacity() < 64);
}

#[test]
fn a_promised_length_allocates_nothing() {
    let (mut client, mut relay) = pair(FRAME_BYTES_MAX_CEILING);
    let message = client.channel.seal(&(FRAME_BYTES_MAX_CEILING as u32).to_be_bytes()).expect("4 bytes");
    relay.receive(&message).expect("the channel is fine");
    assert_eq!(relay.next_frame(), Ok(None));
    assert!(relay.inbound.buffer.capacity() < 64);
}

#[test]
fn the_limit_of_the_next_phase_holds_for_frames_that_came_in_the_same_message() {
    let (mut client, mut relay) = pair(FRAME_BYTES_MAX_HELLO);
    client.send(b"hello").expect("short");
    client.send(&[2; 10_000]).expect("short");
    relay.receive(&client.poll_transmit().expect("queued")).expect("honest");
    assert_eq!(relay.next_frame().expect("short"), Some(Bytes::from_static(b"hello")));
    relay.set_frame_bytes_max(FRAME_BYTES_MAX_GUEST);
    assert_eq!(relay.next_frame().expect("allowed now").expect("whole").len(), 10_000);
}

#[test]
fn no_phase_allows_more_than_the_ceiling() {
    let (mut client, mut relay) = pair(usize::MAX);
    let refused = client.send_bytes(Bytes::from(vec![0; FRAME_BYTES_MAX_CEILING + 1])).expect_err("over the ceiling");
    assert!(matches!(refused, RecordError::FrameTooLong { .. }));
    assert_eq!(client.queued_bytes(), 0);
    let message = client.channel.seal(&(FRAME_BYTES_MAX_CEILING as u32 + 1).to_be_bytes()).expect("4 bytes");
    relay.receive(&message).expect("the channel is fine");
    assert!(relay.next_frame().is_err());
}

#[test]
fn a_receiver_that_never_takes_frames_is_stopped() {
    let (mut client, mut relay) = pair(FRAME_BYTES_MAX_HELLO);
    let stopped = (0..10).find_map(|_| {
        client.send(&[0; NOISE_PLAINTEXT_BYTES_MAX - LENGTH_BYTES]).expect("under the ceiling");
        relay.receive(&client.poll_transmit().expect("queued")).err()
    });
    assert!(matches!(stopped, Some(RecordError::NotDrained { .. })), "{stopped:?}");
}

#[test]
fn a_damaged_link_message_ends_the_stream() {
    let (mut client, mut relay) = pair(FRAME_BYTES_MAX_HELLO);
    client.send(b"frame").expect("short");
    let mut message = client.poll_transmit().expect("queued");
    message[0] ^= 1;
    assert_eq!(relay.receive(&message), Err(ChannelError::MessageRejected.into()));
    assert_eq!(relay.next_frame(), Ok(None));
    relay.send(b"answer").expect("short");
    assert_eq!(relay.poll_transmit(), None);
}

#[test]
fn a_transfer_survives_rekeying_in_its_middle() {
    let Handshake { mut client, mut relay, .. } = handshake(10);
    client.set_rekey_after(2);
    relay.set_rekey_after(2);
    let mut client = SecureStream::new(client, FRAME_BYTES_MAX_CEILING);
    let mut relay = SecureStream::new(relay, FRAME_BYTES_MAX_CEILING);
    client.send(&[9; 500_000]).expect("under the ceiling");
    let (frames, messages) = carry(&mut client, &mut relay).expect("same keys");
    assert!(messages > 5);
    assert_eq!(frames, [Bytes::from(vec![9; 500_000])]);
}

proptest! {
    /// Whatever is sent comes out, in order, whenever the sender flushes.
    #[test]
    fn frames_come_out_as_they_went_in(
        frames in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..3_000), any::<bool>()), 0..20),
    ) {
        let (mut client, mut relay) = pair(FRAME_BYTES_MAX_HELLO);
        let mut out = Vec::new();
        for (frame, flush) in &frames {
            client.send(frame).expect("short");
            if *flush {
                out.extend(carry(&mut client, &mut relay).expect("honest").0);
            }
        }
        out.extend(carry(&mut client, &mut relay).expect("honest").0);
        let sent: Vec<_> = frames.into_iter().map(|(frame, _)| Bytes::from(frame)).collect();
        prop_assert_eq!(out, sent);
        prop_assert_eq!(relay.buffered_bytes(), 0);
    }

    /// The sender may cut the stream into messages anywhere, headers included.
    #[test]
    fn the_stream_may_be_cut_anywhere(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..10),
        cuts in prop::collection::vec(1usize..100, 1..40),
    ) {
        let mut stream = Vec::new();
        for frame in &frames {
            stream.extend((frame.len() as u32).to_be_bytes());
            stream.extend(frame);
        }
        let (mut client, mut relay) = pair(FRAME_BYTES_MAX_HELLO);
        let (mut out, mut rest, mut cuts) = (Vec::new(), stream.as_slice(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (message, later) = rest.split_at(rest.len().min(*cuts.next().expect("a cycle")));
            rest = later;
            relay.receive(&client.channel.seal(message).expect("short")).expect("honest");
            while let Some(frame) = relay.next_frame().expect("short") {
                out.push(frame.to_vec());
            }
        }
        prop_assert_eq!(out, frames);
    }
}
