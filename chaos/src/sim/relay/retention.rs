//! Floors: what the relay gives up when a member asks for it, and takes back.

use zerok_sync_protocol::{ErrorCode, RelayFrame};

use super::{Conn, Log, Relay, Stored};
use crate::sim::Defect;

impl Log {
    /// The floor when the log was this long.
    pub(super) fn floor_at(&self, head: usize) -> u64 {
        let then = self.floors.iter().find(|(len, _)| *len >= head);
        then.map_or(self.floor, |(_, floor)| *floor).min(head as u64 + 1)
    }

    /// An older copy of the log has an older floor, and what was kept then.
    pub(super) fn set_floor_back(&mut self, floor: u64) {
        let head = self.entries.len();
        self.floors.retain(|(len, _)| *len < head);
        self.floor = floor;
        self.kept_from = self.kept_from.min(floor);
    }

    /// Raises or lowers the floor.
    pub fn move_floor(&mut self, floor: u64) {
        self.floors.push((self.entries.len(), self.floor));
        self.floor = floor;
    }
}

impl Relay {
    /// What it still has.
    pub(super) fn kept(&self) -> impl Iterator<Item = &Stored> {
        let gone = self.log.as_ref().map_or(0, |log| log.kept_from - 1);
        self.entries().iter().skip(gone as usize)
    }

    /// The grace is over: what lies below the floor is gone.
    pub fn purge(&mut self) {
        if let Some(log) = &mut self.log {
            log.kept_from = log.floor;
        }
    }

    pub(super) fn on_truncate(&mut self, conn: Conn, below: u64) {
        let (Some(session), Some(log)) = (self.sessions.get(&conn), &self.log) else { return };
        if session.auth_gen != log.auth_gen {
            self.tell_superseded(conn);
            return self.fail(conn, ErrorCode::RotationConflict);
        }
        let here: Vec<_> = self.members_here().into_iter().filter_map(|conn| self.device(conn)).collect();
        let counts = |device: &_| !self.forgets_who_is_away || here.contains(device);
        let acked = |device| log.acked.get(device).copied().unwrap_or_default();
        let lowest = log.allow.iter().filter(|device| counts(*device)).map(acked).min().unwrap_or_default();
        let below_max = lowest.min(log.entries.len() as u64) + 1;
        if below > log.floor.max(below_max) {
            return self.fail(conn, ErrorCode::RateLimited);
        }
        let Some(log) = &mut self.log else { return };
        let mut floor = below.max(log.kept_from);
        if self.defect == Some(Defect::RelayGivesUpMore) && floor > log.floor {
            floor = (floor + 3).min(log.entries.len() as u64);
        }
        if floor != log.floor {
            log.move_floor(floor);
            self.truncations += 1;
        }
        self.send(conn, &RelayFrame::Truncated { floor });
    }
}
