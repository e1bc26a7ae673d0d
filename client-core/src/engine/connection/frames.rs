//! What a relay says, and who in the engine hears it: frames by the phase of the session, refusals by
//! what cures them. A message out of its phase is a violation, whatever it says.

use zerok_sync_protocol::limits::{ERROR_DETAIL_BYTES_MAX, RETRY_AFTER_MAX_MS};
use zerok_sync_protocol::{ErrorCode, RelayFrame};

use super::REFUSED_RETRY_MS;
use super::session::{Phase, State};
use crate::engine::Engine;
use crate::engine::relay::RelayAt;
use crate::error::Problem;
use crate::io::Now;

/// A log that changes in the middle of a session is asked for anew at once, but not more often than this.
const DIVERGED_EVERY_MS: u64 = 30_000;

impl Engine {
    /// A frame, in the phase in which it came; one that has no place there ends the session.
    pub(super) fn on_frame(&mut self, now: Now, at: RelayAt, frame: RelayFrame) -> Result<(), Problem> {
        let State::Open(open) = &mut self.relays[at].session.state else { return Ok(()) };
        if open.as_paper {
            return self.on_paper_frame(now, at, frame);
        }
        match (open.phase, frame) {
            (_, RelayFrame::Pong {}) => Ok(()),
            (_, RelayFrame::Bye { retry_after_ms }) => {
                self.lose(now, at, None, retry_after_ms.min(RETRY_AFTER_MAX_MS));
                Ok(())
            }
            (_, RelayFrame::Error { code, retry_after_ms, detail }) => {
                self.on_error(now, at, code, retry_after_ms, detail);
                Ok(())
            }
            (_, RelayFrame::Superseded { epoch_envelope, more, .. }) => self.on_superseded(at, &epoch_envelope, more),
            (Phase::Live, RelayFrame::Welcome { log: Some(log), .. }) if open.superseded => {
                self.on_readmitted(now, at, log);
                Ok(())
            }
            (Phase::Live, RelayFrame::Restricted { head }) => self.on_restricted(at, head),
            (Phase::Live, RelayFrame::Rotated { auth_gen, .. }) => self.on_rotated(at, auth_gen),
            (Phase::Hello | Phase::Creating, RelayFrame::Welcome { log: Some(log), limits, allow, slot, .. }) => {
                open.allow = allow.into_vec();
                self.check_own_slot(&slot);
                self.on_welcome(now, at, log, limits);
                Ok(())
            }
            (Phase::Live, RelayFrame::Entries { items }) => {
                let bytes = open.relay.last_frame_bytes() as u64;
                if self.searches_snapshot(at) {
                    self.reset_page(at, items.into_vec())?;
                } else if !self.searches(at) {
                    self.on_entries(at, items.into_vec())?;
                    if std::mem::take(&mut self.relays[at].read_on) {
                        // What was damaged was looked at, or is to be; now the rest.
                        self.reconnect(now, at);
                    }
                } else if self.search_page(at, items.into_vec())? {
                    // Once more, for good.
                    self.reconnect(now, at);
                }
                self.give_credit(at, bytes);
                Ok(())
            }
            (Phase::Live, RelayFrame::CaughtUp { .. }) if self.searches_snapshot(at) => {
                self.reset_searched(now, at);
                Ok(())
            }
            (Phase::Live, RelayFrame::CaughtUp { .. }) if self.searches(at) => {
                if self.search_ended(at)? {
                    self.reconnect(now, at);
                }
                Ok(())
            }
            (Phase::Live, RelayFrame::CaughtUp { head }) => {
                self.on_caught_up(at, head)?;
                if std::mem::take(&mut self.relays[at].read_on) {
                    self.reconnect(now, at);
                }
                Ok(())
            }
            (Phase::Live, RelayFrame::PushAck { push, results }) => self.on_push_ack(now, at, push, &results),
            (Phase::Live, RelayFrame::Truncated { floor }) => self.on_truncated(at, floor),
            (Phase::Live, RelayFrame::Probed { blob_ids }) if self.reset_probed(now, at, &blob_ids) => Ok(()),
            (Phase::Live, RelayFrame::Probed { blob_ids }) => self.on_probed(now, at, &blob_ids),
            (Phase::Live, RelayFrame::TimelineChanged { timeline }) => self.on_timeline_changed(at, timeline),
            (Phase::Live, RelayFrame::MissingBlobs { bitmap }) => self.on_missing_blobs(now, at, &bitmap),
            (Phase::Live, RelayFrame::MailboxOpened { mailbox, salt, expires_in_ms }) => {
                self.on_mailbox_opened(at, mailbox, &salt, expires_in_ms)
            }
            (Phase::Live, RelayFrame::MailboxMessage { data }) => {
                self.on_mailbox_message(at, &data);
                Ok(())
            }
            (Phase::Live, RelayFrame::MailboxClosed {}) => {
                self.on_mailbox_closed(at);
                Ok(())
            }
            (Phase::Live, RelayFrame::Acked { device, receipt, .. }) => {
                self.on_acked(at, device, receipt.as_deref());
                Ok(())
            }
            (Phase::Live, RelayFrame::Whispered { data }) => {
                self.on_whispered(now, at, &data);
                Ok(())
            }
            _ => Err(Problem::ProtocolViolation("a message that does not belong here")),
        }
    }

    /// The relay's history is not the one this device read. One that was restored, or healed by another
    /// device, in the middle of a session says what it is now in the next.
    pub(super) fn diverged(&mut self, now: Now, at: RelayAt) {
        if self.look_refused(at) {
            return self.reconnect(now, at);
        }
        let relay = &mut self.relays[at];
        let reading = relay.session.live_ref().is_some_and(|open| open.credit_used > 0 || open.caught_up);
        let compared = relay.session.live_ref().is_some_and(|open| open.compared);
        if reading {
            // A relay that says so in every session would be met in a loop.
            let again = relay.diverged_ms.replace(now.mono_ms).is_some_and(|ms| now.mono_ms < ms + DIVERGED_EVERY_MS);
            if again { self.lose(now, at, None, 0) } else { self.reconnect(now, at) }
        } else if !std::mem::replace(&mut relay.doubted, true) {
            self.reconnect(now, at);
        } else if !compared {
            self.compare(at);
        } else {
            // It changed again in between.
            self.lose(now, at, None, 0);
        }
    }

    fn on_error(&mut self, now: Now, at: RelayAt, number: u16, retry_after_ms: u64, detail: String) {
        let code = ErrorCode::from_number(number);
        match code {
            Some(ErrorCode::MailboxGone) => return self.on_mailbox_refused(at),
            Some(ErrorCode::RotationConflict) if self.relays[at].session.live_ref().is_some() => {
                return self.rotation_lost(at);
            }
            Some(ErrorCode::DeviceRevoked) if self.is_squatted(at) => {
                self.relays[at].squatted = true;
                return self.reconnect(now, at);
            }
            Some(ErrorCode::DeviceRevoked) => {
                return self.lose(now, at, Some(Problem::Revoked), REFUSED_RETRY_MS);
            }
            Some(code) if self.truncation_refused(now, at, code, retry_after_ms) => return,
            // The floor has overtaken it: the next session says where it stands.
            Some(ErrorCode::BelowFloor) if self.relays[at].session.live_ref().is_some() => {
                return self.lose(now, at, None, 0);
            }
            Some(ErrorCode::RateLimited) if self.whispers_refused(now, at, retry_after_ms) => return,
            Some(ErrorCode::Diverged) if self.relays[at].session.live_ref().is_some() => {
                return self.diverged(now, at);
            }
            Some(ErrorCode::UnknownLog) if self.try_next_hello(at) => return,
            // The relay lost a log that this device had read from: it is made again.
            Some(ErrorCode::UnknownLog) if self.recreate(at) => return,
            // Nor may it be made under the newest name.
            Some(ErrorCode::UnknownLog) if self.relays[at].row.cursor > 0 => {
                self.relays[at].row.creation = None;
                self.relays[at].changed = true;
            }
            // Another member was faster.
            Some(ErrorCode::RotationConflict) if self.relays[at].row.creation.take().is_some() => {
                self.relays[at].changed = true;
                return self.reconnect(now, at);
            }
            _ => {}
        }
        let detail = printable(&detail);
        let wait_ms = if retry_after_ms > 0 { retry_after_ms.min(RETRY_AFTER_MAX_MS) } else { REFUSED_RETRY_MS };
        self.lose(now, at, Some(Problem::Refused { code, number, detail }), wait_ms);
    }
}

/// A relay's words, fit to be shown in a terminal or a page.
fn printable(detail: &str) -> String {
    detail.chars().filter(|c| !c.is_control()).take(ERROR_DETAIL_BYTES_MAX).collect()
}
