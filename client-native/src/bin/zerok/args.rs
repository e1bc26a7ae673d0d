//! What can be asked of `zerok`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use zerok_sync::{MirrorPolicy, NoisePublicKey, Transport};

use crate::exit::Failure;
use crate::output::Output;

/// Keep devices in step through a relay that nobody has to trust.
///
/// Exit codes: 0 done, 1 other failure, 2 usage, 3 no relay reachable, 4 integrity violation,
/// 5 not authorised, revoked, or wrong passphrase, 6 limit or quota.
///
/// Passphrases are asked for at the terminal, or taken from ZEROK_PASSPHRASE (this home's),
/// ZEROK_NEW_PASSPHRASE (the one to set) and ZEROK_EXPORT_PASSPHRASE (an export file's).
#[derive(Parser)]
#[command(name = "zerok", version)]
pub struct Arguments {
    /// Directory of this membership; one home is one group [default: zerok in the user's data directory]
    #[arg(long, global = true, env = "ZEROK_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
    /// How to reach the relay: auto, ws or iroh
    #[arg(long, global = true, env = "ZEROK_TRANSPORT", default_value = "auto")]
    transport: Transport,
    /// How much of the log is kept here: full (all that a relay still serves) or own (what came since
    /// the newest snapshot that another device has, too)
    #[arg(long, global = true, env = "ZEROK_MIRROR", default_value = "full")]
    mirror: MirrorPolicy,
    /// Print one JSON object a line
    #[arg(long, global = true)]
    json: bool,
    /// Say more on stderr; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command knows.
pub struct Global {
    pub home: PathBuf,
    pub transport: Transport,
    pub mirror: MirrorPolicy,
    pub output: Output,
}

#[derive(Subcommand)]
pub enum Command {
    /// Found a group whose log a relay keeps
    Init(Init),
    /// Let another device into the group
    Invite(Invite),
    /// Join the group of a device that made an invitation
    Join(Join),
    /// Send something to the group's other devices
    Push(Push),
    /// Print what the other devices sent, one entry a line
    Pull(Pull),
    /// Say where things stand
    Status,
    /// List the group's devices
    Devices,
    /// Give this device another name
    Rename(Rename),
    /// Remove another device from the group and change the group's keys; it keeps what it had
    Revoke(Revoke),
    /// Change the group's keys; invitations that were handed out and not used are void
    Rotate(Rotate),
    /// Take the group back from a device that changed its keys first: begin anew without it
    Refound(Refound),
    /// Take this device out of the group; what it has stays readable here
    Leave(Leave),
    /// Recovery words: make them, look after them, bring a lost group back with them
    #[command(subcommand)]
    Recovery(Recovery),
    /// Let the group's only device go on that was restored from an older copy; no other copy may be in use
    Approve,
    /// Check everything stored on this device and at the relays once more
    Verify,
    /// Put back what the relays lost, as far as this device has it
    Repair(Repair),
    /// Make a snapshot of the log: a device that joins begins with it
    Compact(Compact),
    /// Write the group with all its entries into a file, sealed under a passphrase of its own
    Export(Export),
    /// Make this home of an export file, or read the entries in one
    Import(Import),
    /// Lock this home under a passphrase, change that, or take it away
    #[command(subcommand)]
    Passphrase(Passphrase),
    /// Say which relays carry the group, or change that
    #[command(subcommand)]
    Relays(Relays),
    /// Run a relay on this machine, the same as `zerok-relay`, until Ctrl-C; no home is touched. Every
    /// other setting is an environment variable `ZEROK_RELAY_…` or a line in `./relay.toml`
    #[cfg(all(unix, feature = "serve"))]
    Serve(Serve),
}

/// Kept as they were typed: the relay says what is wrong with a setting, wherever it stands.
#[cfg(all(unix, feature = "serve"))]
#[derive(Args)]
pub struct Serve {
    /// Where to listen [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<String>,
    /// Where it keeps its keys and its database [default: zerok-relay in the user's data directory]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
}

#[derive(Subcommand)]
pub enum Relays {
    /// Have another relay carry the group as well; it is filled from this device
    Add(AddRelay),
    /// Take a relay off the group's list; what it holds stays there
    Remove(RemoveRelay),
    /// List them, the home relay first
    List,
}

#[derive(Args)]
pub struct AddRelay {
    /// Address of the relay: https://host, or http://host:port
    #[arg(value_name = "URL")]
    pub url: String,
    /// Make it the home relay, which orders changes of keys; also one that carries the group already
    #[arg(long)]
    pub home_relay: bool,
    /// What the relay's operator gave to create groups with
    #[arg(long)]
    pub token: Option<String>,
    /// The relay's key, as its operator told it; needed over plain http to another machine
    #[arg(long, value_name = "HEX")]
    pub relay_key: Option<NoisePublicKey>,
    /// How long it may take to be met and filled
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub timeout: Duration,
}

#[derive(Args)]
pub struct RemoveRelay {
    /// Its address, as `relays list` prints it
    #[arg(value_name = "URL")]
    pub url: String,
}

#[derive(Subcommand)]
pub enum Passphrase {
    /// Lock a home that is not locked
    Set,
    /// Lock it under another passphrase
    Change,
    /// Leave it unlocked
    Remove,
}

#[derive(Args)]
pub struct Init {
    /// Address of the relay: https://host, or http://host:port
    #[arg(long, env = "ZEROK_RELAY", value_name = "URL")]
    pub relay: String,
    /// What this device is called [default: this machine's name]
    #[arg(long)]
    pub name: Option<String>,
    /// What the relay's operator gave to create groups with
    #[arg(long)]
    pub token: Option<String>,
    /// The relay's key, as its operator told it; needed over plain http to another machine
    #[arg(long, value_name = "HEX")]
    pub relay_key: Option<NoisePublicKey>,
    /// Lock the home under a passphrase from its first moment
    #[arg(long)]
    pub passphrase: bool,
}

#[derive(Args)]
pub struct Invite {
    /// Invite by a link (the default)
    #[arg(long, conflicts_with = "code")]
    pub link: bool,
    /// Invite by a short code, to be read out and typed: XXXX-XXXX
    #[arg(long)]
    pub code: bool,
    /// Show the link as a QR code, too
    #[arg(long, conflicts_with = "code")]
    pub qr: bool,
    /// The page that the link opens [default: the relay's own]
    #[arg(long, value_name = "URL", conflicts_with = "code")]
    pub base_url: Option<String>,
    /// How long the invitation is good for, such as 90s or 10m; ten minutes at most
    #[arg(long, default_value = "10m", value_parser = parse_ttl)]
    pub ttl: Duration,
    /// Let in whoever holds the link or code, without asking for the digits: for scripts
    #[arg(long)]
    pub yes: bool,
}

#[derive(Args)]
pub struct Join {
    /// The link or code that `invite` printed
    #[arg(value_name = "CODE|LINK")]
    pub invite: zerok_sync::Invite,
    /// With a code: the relay that the inviting device uses; a link says it
    #[arg(long, env = "ZEROK_RELAY", value_name = "URL")]
    pub relay: Option<String>,
    /// What this device is called [default: this machine's name]
    #[arg(long)]
    pub name: Option<String>,
    /// The relay's key, if it is known better than from the link; needed with a code over plain http
    /// to another machine
    #[arg(long, value_name = "HEX")]
    pub relay_key: Option<NoisePublicKey>,
    /// Join without asking whose group it is, which is asked at a terminal only
    #[arg(long)]
    pub yes: bool,
    /// From a home with a group in which this device is alone, or which it has left: bring along what
    /// it wrote there
    #[arg(long, conflicts_with = "passphrase")]
    pub bring_data: bool,
    /// Lock the home under a passphrase from its first moment
    #[arg(long)]
    pub passphrase: bool,
}

#[derive(Args)]
pub struct Push {
    /// What to send; - reads standard input
    #[arg(conflicts_with = "file", required_unless_present = "file")]
    pub text: Option<String>,
    /// Send this file's bytes
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// How far it must have come: to this device's disk, to the relay's, or to that of every other
    /// device, which may be away
    #[arg(long, value_enum, default_value_t = Wait::Relay)]
    pub wait: Wait,
    /// How long to wait for that
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub timeout: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Wait {
    Local,
    Relay,
    AllDevices,
}

#[derive(Args)]
pub struct Pull {
    /// Read again from behind this position, without moving this device's own
    #[arg(long, value_name = "POSITION")]
    pub after: Option<u64>,
    /// Stop after this many entries
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Go on with what comes
    #[arg(long)]
    pub follow: bool,
    /// Print this device's own entries too
    #[arg(long)]
    pub own: bool,
    /// How long the relay may take
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub timeout: Duration,
}

#[derive(Args)]
pub struct Rename {
    /// The new name
    pub name: String,
}

#[derive(Args)]
pub struct Revoke {
    /// Its name, or at least four digits that its identity begins with, as `devices` lists them
    pub device: String,
    /// How long to wait for the relay; what was asked for is carried out later otherwise
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub timeout: Duration,
}

#[derive(Args)]
pub struct Rotate {
    /// How long to wait for the relay; what was asked for is carried out later otherwise
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub timeout: Duration,
}

#[derive(Args)]
pub struct Refound {
    /// A device to leave out: its name, or at least four digits that its identity begins with
    #[arg(long, value_name = "DEVICE", required = true)]
    pub without: Vec<String>,
    /// How long the relay may take
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub timeout: Duration,
}

#[derive(Args)]
pub struct Leave {
    /// How long to wait for the relay; what was asked for is carried out later otherwise
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub timeout: Duration,
}

#[derive(Subcommand)]
pub enum Recovery {
    /// Make 24 words that bring the group back when every device is lost; older words are void then
    Create(RecoveryCreate),
    /// Say whether there are words
    Status,
    /// Bring the group back from its words, which are read from standard input, into an empty home; a
    /// restore that was cut off begins again
    Restore(RecoveryRestore),
}

#[derive(Args)]
pub struct RecoveryCreate {
    /// Do not ask for three of the words: for scripts
    #[arg(long)]
    pub yes: bool,
    /// Write a sheet to be printed, with words and relays: text, or HTML if the name ends so. Print
    /// it and delete it
    #[arg(long, value_name = "FILE")]
    pub sheet: Option<PathBuf>,
    /// How long to wait for the relay; the words are made good later otherwise
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub timeout: Duration,
}

#[derive(Args)]
pub struct RecoveryRestore {
    /// A relay that the sheet names
    #[arg(long, env = "ZEROK_RELAY", value_name = "URL")]
    pub relay: String,
    /// The relay's key, as the sheet has it; needed over plain http to another machine
    #[arg(long, value_name = "HEX")]
    pub relay_key: Option<NoisePublicKey>,
    /// What the new device is called [default: this machine's name]
    #[arg(long)]
    pub name: Option<String>,
    /// Lock the home under a passphrase from its first moment
    #[arg(long)]
    pub passphrase: bool,
    /// How long the whole log may take
    #[arg(long, default_value = "10m", value_parser = parse_duration)]
    pub timeout: Duration,
}

#[derive(Args)]
pub struct Repair {
    /// Give up entries that nobody has any more and that others wait behind, for the whole group
    #[arg(long)]
    pub accept_gap: bool,
    /// How long the relays may take
    #[arg(long, default_value = "10m", value_parser = parse_duration)]
    pub timeout: Duration,
}

#[derive(Args)]
pub struct Compact {
    /// What the app has made of everything that was pulled so far, its own entries included
    #[arg(long)]
    pub file: PathBuf,
    /// How long the relay may take
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub timeout: Duration,
}

#[derive(Args)]
pub struct Export {
    /// The file to write; one that is there is not overwritten
    pub file: PathBuf,
    /// Put this device's identity into it: whoever has the file and its passphrase can be this device
    #[arg(long)]
    pub identity: bool,
}

#[derive(Args)]
pub struct Import {
    /// What `export` wrote
    pub file: PathBuf,
    /// Print the entries in it, one a line, and become nobody
    #[arg(long)]
    pub read: bool,
    /// Lock the home under a passphrase from its first moment
    #[arg(long, conflicts_with = "read")]
    pub passphrase: bool,
}

impl Arguments {
    /// Whether this process is to be a relay.
    pub fn is_relay(&self) -> bool {
        #[cfg(all(unix, feature = "serve"))]
        if let Command::Serve(_) = self.command {
            return true;
        }
        false
    }

    pub fn global(&self) -> Result<Global, Failure> {
        let home = self.home.clone().or_else(default_home).ok_or_else(|| {
            Failure::usage("there is no home directory to keep data in: give one with --home DIR".into())
        })?;
        let output = Output { json: self.json };
        Ok(Global { home, transport: self.transport, mirror: self.mirror, output })
    }
}

/// `zerok` in the user's data directory.
fn default_home() -> Option<PathBuf> {
    let directory = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = if cfg!(windows) {
        directory("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        directory("HOME").map(|home| home.join("Library/Application Support"))
    } else {
        // The XDG base directory specification: relative paths are to be ignored.
        directory("XDG_DATA_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| directory("HOME").map(|home| home.join(".local/share")))
    };
    data.map(|data| data.join("zerok"))
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let per_unit = match unit {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("expected a time such as 90s, 10m or 1h".into()),
    };
    let number: u32 = number.parse().map_err(|_| "expected a time such as 90s, 10m or 1h")?;
    Ok(Duration::from_millis(u64::from(number) * per_unit))
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    let ttl = parse_duration(text)?;
    if (Duration::from_secs(1)..=Duration::from_secs(600)).contains(&ttl) {
        Ok(ttl)
    } else {
        Err("an invitation lives between one second and ten minutes".into())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn durations_have_a_unit_or_are_seconds() {
        assert_eq!(parse_duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("10m"), Ok(Duration::from_secs(600)));
        for text in ["", "m", "-1s", "1 s", "1d", "99999999999s", "1.5s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(parse_ttl("11m").is_err());
        assert!(parse_ttl("0s").is_err());
    }
}
