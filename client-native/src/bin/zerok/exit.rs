//! How a command ends: one exit code and one or two sentences.

use std::process::ExitCode;

use zerok_sync::{
    ClientError, CompactError, ErrorCode, ExportError, IntegrityEvent, JoinError, MembershipError, Problem, PushError,
    RelaysError, RestoreError, StorageError,
};

use crate::finding::describe;

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

impl Exit {
    /// Of several reasons the weightiest makes the exit code. A violation is told once, and a device
    /// that was revoked is told so by each of its commands: so the violation goes first.
    fn weight(self) -> u8 {
        match self {
            Self::NoRelay => 0,
            Self::Other => 1,
            Self::Usage => 2,
            Self::Limit => 3,
            Self::NotAuthorised => 4,
            Self::Integrity => 5,
        }
    }
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

    /// Says this as well, behind it; the exit code is that of the two which matters more.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let exit = if other.exit.weight() > self.exit.weight() { other.exit } else { self.exit };
        let messages: Vec<String> = [self.message, other.message].into_iter().flatten().collect();
        Self { exit, message: (!messages.is_empty()).then(|| messages.join("\nzerok: ")) }
    }

    /// Whether it says so.
    pub fn says(&self, sentence: &str) -> bool {
        self.message.as_ref().is_some_and(|message| message.contains(sentence))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_reasons_both_are_told_and_the_weightier_makes_the_exit_code() {
        let revoked = || Failure::new(Exit::NotAuthorised, "revoked".into());
        let found = || Failure::new(Exit::Integrity, "found".into());
        for both in [revoked().and(found()), found().and(revoked())] {
            assert_eq!(both.exit, Exit::Integrity);
            assert!(both.says("revoked") && both.says("found"));
        }
        let away = Failure::new(Exit::NoRelay, "away".into());
        assert_eq!(away.and(revoked()).exit, Exit::NotAuthorised);
    }

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
