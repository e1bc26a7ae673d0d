//! How a command ends: one exit code and one or two sentences.

use std::process::ExitCode;

use zerok_sync::{
    ClientError, CompactError, DeviceId, ErrorCode, ExportError, IntegrityEvent, JoinError, MembershipError, Problem,
    PushError, RelaysError, RestoreError, StorageError,
};

/// The exit codes, part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Other = 1,
    Usage = 2,
    NoRelay = 3,
    Integrity = 4,
    NotAuthorised = 5,
    Limit = 6,
}

/// Why a command did not do what it was asked, with what to do next.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    /// Nothing where the reader has gone away.
    message: Option<String>,
}

impl Failure {
    pub fn new(exit: Exit, message: String) -> Self {
        Self { exit, message: Some(message) }
    }

    pub fn other(message: String) -> Self {
        Self::new(Exit::Other, message)
    }

    pub fn usage(message: String) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// What was found on the way: a violation ends a command with 4, whatever else it did.
    pub fn integrity(findings: &[IntegrityEvent]) -> Self {
        let listed: Vec<String> = findings.iter().map(|finding| format!("\n  {}", describe(finding))).collect();
        Self::new(
            Exit::Integrity,
            format!(
                "the relay or a device did what an honest one does not do; what could not be verified was left out:{}",
                listed.concat()
            ),
        )
    }

    /// Puts a sentence in front.
    #[must_use]
    pub fn context(mut self, context: &str) -> Self {
        self.message = self.message.map(|message| format!("{context}: {message}"));
        self
    }

    /// Puts a line behind: what to do.
    #[must_use]
    pub fn advice(mut self, advice: &str) -> Self {
        self.message = self.message.map(|message| format!("{message}\n{advice}"));
        self
    }

    pub fn report(self) -> ExitCode {
        if let Some(message) = self.message {
            eprintln!("zerok: {message}");
        }
        ExitCode::from(self.exit as u8)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::new(exit_of(&error), error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    /// An error on stdout.
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            // `zerok pull | head`: the reader has what it wanted.
            return Self { exit: Exit::Other, message: None };
        }
        Self::other(format!("cannot write the output: {error}"))
    }
}

fn exit_of(error: &ClientError) -> Exit {
    match error {
        ClientError::NotARelayAddress(_) | ClientError::Invite(_) => Exit::Usage,
        ClientError::Storage(StorageError::PassphraseNeeded { .. } | StorageError::WrongPassphrase { .. })
        | ClientError::Export(ExportError::WrongPassphrase) => Exit::NotAuthorised,
        ClientError::Export(ExportError::NotAnExport | ExportError::NoIdentity)
        | ClientError::FileExists { .. }
        | ClientError::File { .. } => Exit::Usage,
        ClientError::Relay(problem) | ClientError::PushRefused(problem) => exit_of_problem(problem),
        ClientError::TimedOut(problem) => problem.as_ref().map_or(Exit::NoRelay, exit_of_problem),
        ClientError::Join(error) => exit_of_join(error),
        ClientError::Restore(error) => exit_of_restore(error),
        ClientError::Push(PushError::TooLarge { .. })
        | ClientError::Compact(CompactError::TooLarge { .. } | CompactError::TooMuchHistory) => Exit::Limit,
        ClientError::Compact(CompactError::NotProcessed { .. }) => Exit::Usage,
        ClientError::Push(PushError::Left) | ClientError::Membership(MembershipError::Left) => Exit::NotAuthorised,
        ClientError::Membership(MembershipError::NotAlone) => Exit::NotAuthorised,
        ClientError::Membership(MembershipError::GroupFull) => Exit::Limit,
        ClientError::Membership(MembershipError::RelayUnread { .. }) => Exit::NoRelay,
        ClientError::Membership(
            MembershipError::Stopped | MembershipError::NotYet | MembershipError::WordsUnderWay,
        ) => Exit::Other,
        ClientError::Membership(_) => Exit::Usage,
        ClientError::Relays(RelaysError::Membership(MembershipError::Left)) => Exit::NotAuthorised,
        ClientError::Relays(RelaysError::Membership(_)) => Exit::Other,
        ClientError::Relays(RelaysError::TooMany(_)) => Exit::Limit,
        ClientError::Relays(_) => Exit::Usage,
        _ => Exit::Other,
    }
}

fn exit_of_join(error: &JoinError) -> Exit {
    match error {
        JoinError::InviteGone
        | JoinError::NoSuchCode { .. }
        | JoinError::WrongSecret
        | JoinError::WrongCode
        | JoinError::WrongDigits
        | JoinError::Refused
        | JoinError::Declined => Exit::NotAuthorised,
        JoinError::Relay(problem) => exit_of_problem(problem),
        _ => Exit::Other,
    }
}

fn exit_of_restore(error: &RestoreError) -> Exit {
    match error {
        RestoreError::UnknownWords { .. } => Exit::NotAuthorised,
        // A relay that offers something else than it should.
        RestoreError::AnchorLost
        | RestoreError::NotYourGroup
        | RestoreError::OlderState
        | RestoreError::NotTheLog
        | RestoreError::LogIncomplete => Exit::Integrity,
        RestoreError::Relay(problem) => exit_of_problem(problem),
        _ => Exit::Other,
    }
}

pub fn exit_of_problem(problem: &Problem) -> Exit {
    match problem {
        Problem::Unreachable(_) | Problem::NotARelay(_) => Exit::NoRelay,
        // Somebody else answers where the relay was.
        Problem::RelayKeyChanged { .. } => Exit::Integrity,
        Problem::RelayKeyNeeded { .. } => Exit::Usage,
        Problem::EpochNotOpened | Problem::Revoked | Problem::Left | Problem::NeedsApproval => Exit::NotAuthorised,
        Problem::Refused { code: Some(code), .. } => exit_of_code(*code),
        _ => Exit::Other,
    }
}

fn exit_of_code(code: ErrorCode) -> Exit {
    match code {
        ErrorCode::UnknownLog
        | ErrorCode::Unauthorized
        | ErrorCode::DeviceRevoked
        | ErrorCode::MailboxGone
        | ErrorCode::CreationRefused => Exit::NotAuthorised,
        ErrorCode::RateLimited
        | ErrorCode::EnvelopeTooLarge
        | ErrorCode::GroupQuotaExceeded
        | ErrorCode::TooManyConnections => Exit::Limit,
        ErrorCode::Overloaded | ErrorCode::ShuttingDown | ErrorCode::StorageUnavailable => Exit::NoRelay,
        ErrorCode::BlobIdMismatch | ErrorCode::Diverged => Exit::Integrity,
        _ => Exit::Other,
    }
}

/// Entries of a device and the verb that goes with them.
pub fn entries_are(from_seq: u64, to_seq: u64, device: &DeviceId) -> String {
    if from_seq == to_seq {
        format!("entry {from_seq} of device {device} is")
    } else {
        format!("entries {from_seq} to {to_seq} of device {device} are")
    }
}

/// What is on record, each once: one session finds again what another has found.
pub fn on_record<'a>(findings: impl IntoIterator<Item = &'a IntegrityEvent>) -> Vec<String> {
    let mut said = Vec::new();
    for line in findings.into_iter().map(describe) {
        if !said.contains(&line) {
            said.push(line);
        }
    }
    said
}

/// One accusation and its evidence, in a line.
pub fn describe(finding: &IntegrityEvent) -> String {
    match finding {
        IntegrityEvent::Corrupt { cursor, blob_id } => format!("entry {cursor} ({blob_id}) is damaged or forged"),
        IntegrityEvent::Lost { cursor, .. } => format!("the relay lost entry {cursor}"),
        IntegrityEvent::Gap { sender, from_seq, to_seq } => {
            format!("{} missing", entries_are(*from_seq, *to_seq, sender))
        }
        IntegrityEvent::ForkedDevice { sender, seq, first, second } => {
            format!("device {sender} wrote two different entries {seq}: {first} and {second}")
        }
        IntegrityEvent::ForgedByMember { cursor, sender } => {
            format!("entry {cursor} bears the name of device {sender}, which did not sign it")
        }
        IntegrityEvent::NotAMember { cursor, sender } => {
            format!("entry {cursor} is by {sender}, which is not a device of the group")
        }
        IntegrityEvent::Replayed { cursor, blob_id } => format!("the relay repeated {blob_id} as entry {cursor}"),
        IntegrityEvent::Reordered { cursor, sender } => {
            format!("the relay changed the order of device {sender}'s entries at {cursor}")
        }
        IntegrityEvent::CursorJump { expected, got } => {
            format!("the relay went on with entry {got} where {expected} should have come")
        }
        IntegrityEvent::RolledBack { from, .. } => {
            format!("the relay no longer has what it had up to entry {from}")
        }
        IntegrityEvent::Forked { observer, cursor } => {
            format!("the relay showed device {observer} another order than this one, up to entry {cursor}")
        }
        IntegrityEvent::Quarantined { cursor, sender, seq } => {
            format!("entry {cursor} is number {seq} of {sender}, which was removed before it wrote that: held back")
        }
        IntegrityEvent::FalseSnapshot { sender, seq } => {
            format!(
                "the snapshot that device {sender} made as its entry {seq} is not what the log says: it is not used"
            )
        }
        IntegrityEvent::MembershipConflict { cursor, one, other } => {
            format!(
                "devices {one} and {other} removed each other, and the relay took the second removal (entry {cursor}) for the first: decide who stays, and pair the others again"
            )
        }
        IntegrityEvent::Withheld { from_cursor, to_cursor } => {
            format!(
                "the relay keeps back entries {from_cursor} to {to_cursor}, and no snapshot stands for them: it was asked to give them back"
            )
        }
        IntegrityEvent::Unproven { sender, from_seq, to_seq, by } => {
            format!(
                "device {by} says that it has entries {from_seq} to {to_seq} of device {sender}, and nothing else shows that there are any: the relay keeps them back, or that device says what is not so"
            )
        }
        IntegrityEvent::FalseSeen { by, sender, seq } => {
            format!(
                "device {by} says that it has entry {seq} of device {sender}, and that device wrote no such entry: the one that says so is broken or lies, or device {sender} was restored from an older copy of itself"
            )
        }
        // The enum grows with the detectors.
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_failure_has_the_documented_exit_code() {
        let refused = |code: ErrorCode| {
            ClientError::Relay(Problem::Refused { code: Some(code), number: code.number(), detail: String::new() })
        };
        for (error, code) in [
            (ClientError::NotARelayAddress("x".into()), 2),
            (ClientError::Storage(StorageError::WrongPassphrase { path: "x".into() }), 5),
            (ClientError::Storage(StorageError::PassphraseNeeded { path: "x".into() }), 5),
            (ClientError::TimedOut(None), 3),
            (ClientError::Relay(Problem::Unreachable(String::new())), 3),
            (refused(ErrorCode::Overloaded), 3),
            (ClientError::Relay(Problem::RelayKeyChanged { url: String::new() }), 4),
            (ClientError::Relay(Problem::Revoked), 5),
            (ClientError::Relay(Problem::NeedsApproval), 5),
            (ClientError::Push(PushError::Left), 5),
            (ClientError::Membership(MembershipError::OwnDevice), 2),
            (ClientError::Relays(RelaysError::LastRelay), 2),
            (ClientError::Relays(RelaysError::KeyNeeded(String::new())), 2),
            (ClientError::Membership(MembershipError::RelayUnread { relay: String::new() }), 3),
            (ClientError::Relays(RelaysError::TooMany(8)), 6),
            (refused(ErrorCode::CreationRefused), 5),
            (ClientError::Join(JoinError::InviteGone), 5),
            (ClientError::Join(JoinError::WrongCode), 5),
            (ClientError::Join(JoinError::WrongDigits), 5),
            (ClientError::Invite(zerok_sync::InviteError::RelayNeeded), 2),
            (ClientError::Restore(RestoreError::NotYourGroup), 4),
            (ClientError::Restore(RestoreError::UnknownWords { relay: String::new() }), 5),
            (ClientError::Restore(Problem::Unreachable(String::new()).into()), 3),
            (refused(ErrorCode::GroupQuotaExceeded), 6),
            (ClientError::Push(PushError::TooLarge { bytes: 2, bytes_max: 1 }), 6),
            (ClientError::Compact(CompactError::TooLarge { bytes: 2, bytes_max: 1 }), 6),
            (ClientError::Compact(CompactError::NotProcessed { position: 1 }), 2),
            (ClientError::Closed, 1),
        ] {
            assert_eq!(exit_of(&error) as u8, code, "{error}");
        }
    }
}
