//! The secure way to a relay over one link: channel handshake, the check *who* answered, frames.
//! Sans-IO, and the same for the engine's sessions and a joiner's.
//!
//! Create a [`RelayLink`] when the link stands, then for every link message call
//! [`RelayLink::receive`] and drain [`RelayLink::poll_event`]; after either, and after
//! [`RelayLink::send`], drain [`RelayLink::poll_transmit`].
//!
//! Invariants: a relay with another key than the pinned one learns nothing about this side (the
//! comparison comes before handshake message 3); a key is pinned at first use only where TLS or
//! loopback vouches for the address; after an error nothing more is read or sent.

use bytes::Bytes;
use rand_core::CryptoRng;
use zerok_sync_protocol::channel::{AwaitingResponse, ChannelError, Initiator, StaticKey};
use zerok_sync_protocol::close;
use zerok_sync_protocol::hello::HandshakeHash;
use zerok_sync_protocol::limits::{HANDSHAKE_DEADLINE_MS, SUITE};
use zerok_sync_protocol::record::{RecordError, SecureStream};
use zerok_sync_protocol::{ClientFrame, NoisePublicKey, RelayFrame};

use crate::error::Problem;
use crate::io::{Now, RelayAddress};
use crate::origin::Origin;

/// What a link brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayLinkEvent {
    /// The channel stands: say `Hello`. Comes once, before any frame.
    Ready {
        /// The relay's key: the pinned one, or on first use the one to pin.
        relay_key: NoisePublicKey,
        /// What a member signs in `Hello`.
        handshake_hash: HandshakeHash,
    },
    /// The relay said this.
    Frame(RelayFrame),
}

/// Whether this relay may be contacted at all: its key is known, or may be trusted at first use.
/// Ask before connecting, so that nothing is sent to a relay that would be refused anyway.
///
/// # Errors
/// [`Problem::RelayKeyNeeded`] over plain http to another machine without a key;
/// [`Problem::NotARelay`] when the address is not an origin.
pub fn check_first_contact(address: &RelayAddress) -> Result<(), Problem> {
    let origin = Origin::parse(&address.url).map_err(|error| Problem::NotARelay(error.to_string()))?;
    if address.key.is_none() && !origin.allows_trust_on_first_use() {
        return Err(Problem::RelayKeyNeeded { url: address.url.clone() });
    }
    Ok(())
}

/// One link to a relay, from the first handshake byte to the last frame.
#[derive(Debug)]
pub struct RelayLink {
    state: State,
    address: RelayAddress,
    frame_bytes_max: usize,
    deadline_ms: u64,
    /// Handshake messages that wait to be sent; the stream has a queue of its own.
    handshake_out: Option<Bytes>,
    ready: Option<RelayLinkEvent>,
    last_frame_bytes: usize,
}

#[derive(Debug)]
enum State {
    /// Message 1 is sent.
    Handshake(Box<AwaitingResponse>),
    Stream(Box<SecureStream>),
    /// An error was reported.
    Ended,
}

impl RelayLink {
    /// Starts the handshake on a link that stands. `frame_bytes_max` bounds what the relay may
    /// send in one frame; see [`Self::set_frame_bytes_max`].
    ///
    /// # Errors
    /// As [`check_first_contact`].
    pub fn connect(
        now: Now,
        key: &StaticKey,
        address: &RelayAddress,
        frame_bytes_max: usize,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Self, Problem> {
        check_first_contact(address)?;
        let (handshake, message) = Initiator::relay(key, rng);
        Ok(Self {
            state: State::Handshake(Box::new(handshake)),
            address: address.clone(),
            frame_bytes_max,
            deadline_ms: now.mono_ms.saturating_add(HANDSHAKE_DEADLINE_MS),
            handshake_out: Some(message.into()),
            ready: None,
            last_frame_bytes: 0,
        })
    }

    /// When the handshake must be complete; `None` once it is.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        matches!(self.state, State::Handshake(_)).then_some(self.deadline_ms)
    }

    /// Gives up on a handshake that takes too long.
    ///
    /// # Errors
    /// [`Problem::Unreachable`] when the deadline has passed.
    pub fn check_deadline(&mut self, now: Now) -> Result<(), Problem> {
        if self.next_deadline_ms().is_some_and(|deadline| now.mono_ms >= deadline) {
            self.state = State::Ended;
            return Err(Problem::Unreachable("it took the connection and then did not answer".into()));
        }
        Ok(())
    }

    /// Changes what the relay may send in one frame, as the session enters another phase.
    pub fn set_frame_bytes_max(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max;
        if let State::Stream(stream) = &mut self.state {
            stream.set_frame_bytes_max(frame_bytes_max);
        }
    }

    /// Takes one link message in; then drain [`Self::poll_event`].
    ///
    /// # Errors
    /// A [`Problem`]; the link is of no further use.
    pub fn receive(&mut self, link_message: &[u8]) -> Result<(), Problem> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Handshake(handshake) => self.finish_handshake(*handshake, link_message),
            State::Stream(mut stream) => {
                stream.receive(link_message).map_err(stream_problem)?;
                self.state = State::Stream(stream);
                Ok(())
            }
            State::Ended => Err(Problem::ProtocolViolation("more bytes after an error")),
        }
    }

    fn finish_handshake(&mut self, handshake: AwaitingResponse, message: &[u8]) -> Result<(), Problem> {
        let relay = handshake.read(message).map_err(handshake_problem)?;
        let relay_key = relay.remote_static();
        if self.address.key.is_some_and(|pinned| pinned != relay_key) {
            return Err(Problem::RelayKeyChanged { url: self.address.url.clone() });
        }
        let (message, channel) = relay.finish(&[]).map_err(handshake_problem)?;
        self.handshake_out = Some(message.into());
        self.ready = Some(RelayLinkEvent::Ready { relay_key, handshake_hash: channel.handshake_hash() });
        self.state = State::Stream(Box::new(SecureStream::new(channel, self.frame_bytes_max)));
        Ok(())
    }

    /// What came, in order, or `None` until more is received.
    ///
    /// # Errors
    /// [`Problem::ProtocolViolation`] for a frame that is too long or cannot be read; the link is of
    /// no further use.
    pub fn poll_event(&mut self) -> Result<Option<RelayLinkEvent>, Problem> {
        if let Some(ready) = self.ready.take() {
            return Ok(Some(ready));
        }
        let State::Stream(stream) = &mut self.state else {
            return Ok(None);
        };
        let frame = match stream.next_frame() {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) => {
                self.last_frame_bytes = bytes.len();
                RelayFrame::decode(&bytes).map_err(|_| Problem::ProtocolViolation("a frame that cannot be read"))
            }
            Err(error) => Err(stream_problem(error)),
        };
        match frame {
            Ok(frame) => Ok(Some(RelayLinkEvent::Frame(frame))),
            Err(problem) => {
                self.state = State::Ended;
                Err(problem)
            }
        }
    }

    /// Encoded length of the frame that [`Self::poll_event`] gave last: what it cost of the credit.
    #[must_use]
    pub fn last_frame_bytes(&self) -> usize {
        self.last_frame_bytes
    }

    /// Queues a frame. Before [`RelayLinkEvent::Ready`] and after an error there is nobody to send
    /// it to, and it is dropped.
    pub fn send(&mut self, frame: &ClientFrame) {
        if let State::Stream(stream) = &mut self.state {
            // Only a frame over the ceiling is refused, and no client frame reaches it: envelopes
            // are bounded when they are sealed, pushes when they are filled.
            let sent = stream.send(&frame.encode());
            debug_assert!(sent.is_ok(), "a {} frame over the ceiling", frame.name());
        }
    }

    /// Bytes queued and not yet taken by [`Self::poll_transmit`].
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        match &self.state {
            State::Stream(stream) => stream.queued_bytes(),
            State::Handshake(_) | State::Ended => 0,
        }
    }

    /// The next link message to send.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        if let Some(message) = self.handshake_out.take() {
            return Some(message);
        }
        match &mut self.state {
            State::Stream(stream) => stream.poll_transmit().map(Bytes::from),
            State::Handshake(_) | State::Ended => None,
        }
    }
}

/// What a relay means that speaks no version of this device's: nothing vouches for its word.
pub(crate) fn unsupported_version(reason: &str) -> Problem {
    Problem::UnsupportedVersion(match close::suites(reason) {
        Some((min, max)) if min > SUITE => {
            format!("this app is too old, it speaks version {SUITE} and the relay {min} to {max}: update this app")
        }
        Some((min, max)) if max < SUITE => format!(
            "the relay is too old, it speaks versions {min} to {max} and this app {SUITE}: whoever runs it has to update it"
        ),
        _ => "the relay does not say which side is too old: update this app, or ask whoever runs the relay to".into(),
    })
}

fn handshake_problem(error: ChannelError) -> Problem {
    match error {
        ChannelError::UnsupportedSuite { theirs } => {
            unsupported_version(&close::unsupported_version_reason(theirs, theirs))
        }
        other => Problem::NotARelay(other.to_string()),
    }
}

fn stream_problem(error: RecordError) -> Problem {
    Problem::ProtocolViolation(match error {
        RecordError::Channel(_) => "a message that was damaged, repeated or left out on its way",
        RecordError::FrameTooLong { .. } => "a longer frame than it may send now",
        RecordError::NotDrained { .. } => "more at once than fits",
    })
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;
    use zerok_sync_protocol::channel::Responder;
    use zerok_sync_protocol::limits::FRAME_BYTES_MAX_GUEST;

    use super::*;

    const START: Now = Now { mono_ms: 1_000, wall_ms: 0 };

    fn rng(seed: u8) -> ChaCha20Rng {
        ChaCha20Rng::from_seed([seed; 32])
    }

    fn relay_key() -> StaticKey {
        StaticKey::from_bytes([7; 32])
    }

    fn connect(url: &str, key: Option<NoisePublicKey>) -> Result<RelayLink, Problem> {
        let address = RelayAddress { url: url.into(), key };
        RelayLink::connect(START, &StaticKey::from_bytes([1; 32]), &address, FRAME_BYTES_MAX_GUEST, &mut rng(1))
    }

    /// The relay's answer to message 1, and its side of the channel once message 3 is there.
    fn handshake(link: &mut RelayLink) -> Result<SecureStream, Problem> {
        let first = link.poll_transmit().expect("message 1");
        let (relay, second) = Responder::relay(&relay_key()).read(&first, &mut rng(2)).expect("message 1 is sound");
        link.receive(&second)?;
        let third = link.poll_transmit().expect("message 3");
        let (channel, payload) = relay.read(&third).expect("message 3 is sound");
        assert!(payload.is_empty());
        Ok(SecureStream::new(channel, FRAME_BYTES_MAX_GUEST))
    }

    #[test]
    fn frames_go_both_ways_once_the_handshake_is_done() {
        let mut link = connect("http://127.0.0.1:8080", Some(relay_key().public())).expect("allowed");
        let mut relay = handshake(&mut link).expect("the right key");
        let ready = RelayLinkEvent::Ready { relay_key: relay_key().public(), handshake_hash: relay.handshake_hash() };
        assert_eq!(link.poll_event(), Ok(Some(ready)));
        assert_eq!(link.next_deadline_ms(), None);

        link.send(&ClientFrame::Ping {});
        relay.receive(&link.poll_transmit().expect("a message")).expect("sound");
        let frame = relay.next_frame().expect("sound").expect("whole");
        assert_eq!(ClientFrame::decode(&frame), Ok(ClientFrame::Ping {}));

        relay.send(&RelayFrame::Pong {}.encode()).expect("short");
        link.receive(&relay.poll_transmit().expect("a message")).expect("sound");
        assert_eq!(link.poll_event(), Ok(Some(RelayLinkEvent::Frame(RelayFrame::Pong {}))));
        assert_eq!(link.last_frame_bytes(), RelayFrame::Pong {}.encode().len());
        assert_eq!(link.poll_event(), Ok(None));
    }

    #[test]
    fn another_key_than_the_pinned_one_ends_it_before_message_3() {
        let url = "https://relay.example";
        let mut link = connect(url, Some(NoisePublicKey([9; 32]))).expect("allowed");
        assert_eq!(handshake(&mut link).err(), Some(Problem::RelayKeyChanged { url: url.into() }));
        assert_eq!(link.poll_transmit(), None);
    }

    #[test]
    fn a_key_is_trusted_at_first_use_over_https_and_loopback_only() {
        assert!(connect("https://relay.example", None).is_ok());
        assert!(connect("http://localhost:8080", None).is_ok());
        let url = "http://relay.example:8080";
        assert_eq!(connect(url, None).err(), Some(Problem::RelayKeyNeeded { url: url.into() }));
        assert!(connect(url, Some(relay_key().public())).is_ok());
    }

    #[test]
    fn b_down_the_side_that_is_too_old_is_named() {
        let said = |min, max| unsupported_version(&close::unsupported_version_reason(min, max)).to_string();
        assert!(said(SUITE + 1, SUITE + 3).contains("update this app"), "{}", said(SUITE + 1, SUITE + 3));
        assert!(said(0, SUITE - 1).contains("the relay is too old"), "{}", said(0, SUITE - 1));
        assert!(unsupported_version("hm").to_string().contains("does not say"));
    }

    #[test]
    fn what_is_no_relay_is_called_that() {
        for answer in [&b""[..], b"HTTP/1.1 400 Bad Request", &[0; 1_300], &[0; 5_000]] {
            let mut link = connect("https://relay.example", None).expect("allowed");
            assert!(matches!(link.receive(answer), Err(Problem::NotARelay(_))), "{} bytes", answer.len());
            assert!(link.receive(answer).is_err());
        }
    }

    #[test]
    fn a_handshake_has_a_deadline() {
        let mut link = connect("https://relay.example", None).expect("allowed");
        let deadline = link.next_deadline_ms().expect("one");
        assert_eq!(deadline, START.mono_ms + HANDSHAKE_DEADLINE_MS);
        assert_eq!(link.check_deadline(Now { mono_ms: deadline - 1, wall_ms: 0 }), Ok(()));
        let late = link.check_deadline(Now { mono_ms: deadline, wall_ms: 0 });
        assert!(matches!(late, Err(Problem::Unreachable(_))), "{late:?}");
    }

    #[test]
    fn a_damaged_message_or_an_unreadable_or_too_long_frame_ends_the_link() {
        type Spoil = fn(&mut SecureStream) -> Vec<u8>;
        let cases: [Spoil; 3] = [
            |_| vec![0; 40],
            |relay| {
                relay.send(b"not MessagePack").expect("short");
                relay.poll_transmit().expect("a message")
            },
            |relay| {
                relay.send(&vec![0; FRAME_BYTES_MAX_GUEST + 1]).expect("under the ceiling");
                relay.poll_transmit().expect("a message")
            },
        ];
        for spoil in cases {
            let mut link = connect("https://relay.example", None).expect("allowed");
            let mut relay = handshake(&mut link).expect("no key is pinned");
            let message = spoil(&mut relay);
            let result = link.receive(&message).and_then(|()| {
                link.poll_event().expect("Ready");
                link.poll_event().map(drop)
            });
            assert!(matches!(result, Err(Problem::ProtocolViolation(_))), "{result:?}");
            link.send(&ClientFrame::Ping {});
            assert_eq!(link.poll_transmit(), None);
        }
    }
}
