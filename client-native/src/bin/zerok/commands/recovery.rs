//! `zerok recovery create`, `status`, `restore`: words on paper for when every device is lost.

use std::io::{IsTerminal, Write};
use std::path::Path;

use serde_json::json;
use zerok_sync::{Client, ClientError, Member, Recovery, RecoveryDraft, RecoveryWords, RestoreOptions, Status};

use super::devices::time;
use super::{REPORT_TIMEOUT, Session, catch_up, count, shown, wait_for};
use crate::args::{Global, RecoveryCreate, RecoveryRestore};
use crate::exit::{Exit, Failure, exit_of_problem};
use crate::secret;
use crate::terminal::Lines;

/// Wrong answers after which the words were not written down.
const SLIPS_MAX: u32 = 3;
/// Words on a line.
const COLUMNS: usize = 4;

/// Says what a group of one device is lacking.
pub fn nag(status: &Status) {
    if status.needs_recovery_words() {
        nag_alone();
    }
}

/// The same, where it is known that there is no other device.
pub fn nag_alone() {
    eprintln!(
        "zerok: this is the group's only device: if it is lost, so is the group. Make recovery words with: zerok recovery create"
    );
}

/// For `status`.
pub fn told(status: &Status) -> String {
    match status.recovery {
        Recovery::None => "no words".into(),
        Recovery::UnderWay => "words were made and are not good yet: this takes the relay".into(),
        Recovery::Ready { made_at_ms, .. } => {
            let by = maker(status).map_or("a device that was removed".into(), |member| shown(&member.name));
            format!("words made {} by {by}; all others are void", time(made_at_ms))
        }
    }
}

/// Whose words are good: the sheet names the same device.
fn maker(status: &Status) -> Option<&Member> {
    let Recovery::Ready { made_by, .. } = status.recovery else { return None };
    status.members.iter().find(|member| Some(member.device) == made_by)
}

/// For programs.
pub const fn word(status: &Status) -> &'static str {
    match status.recovery {
        Recovery::None => "none",
        Recovery::UnderWay => "under_way",
        Recovery::Ready { .. } => "ready",
    }
}

pub async fn create(global: &Global, options: &RecoveryCreate) -> Result<(), Failure> {
    let session = Session::open(global, true).await?;
    let outcome = create_in(&session, global, options).await;
    session.close(outcome).await
}

async fn create_in(session: &Session, global: &Global, options: &RecoveryCreate) -> Result<(), Failure> {
    let client = &session.client;
    // Nobody writes words down that cannot be made good just now.
    catch_up(client, options.timeout).await?;
    if let Some(file) = options.sheet.as_deref().filter(|file| file.exists()) {
        return Err(Failure::usage(format!("{} is there already: name a new file", file.display())));
    }
    if matches!(client.status().borrow().recovery, Recovery::Ready { .. }) {
        eprintln!("zerok: the words that were made before are void as soon as these are good");
    }
    let draft = client.draft_recovery().await?;
    show(global, &draft.words)?;
    if !options.yes {
        ask(&draft).await?;
    }
    if let Some(file) = &options.sheet {
        write_sheet(client, file, &draft.words).await?;
        eprintln!("zerok: {} holds the words: print it, and delete it", file.display());
    }
    let created = tokio::time::timeout(options.timeout, client.create_recovery(draft.words)).await;
    match created {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            if let (ClientError::Membership(_) | ClientError::WordsReplaced, Some(file)) = (&error, &options.sheet) {
                // These words are nothing, and look like something.
                let _ = std::fs::remove_file(file);
            }
            return Err(Failure::from(error).context("the words are not good"));
        }
        Err(_) => {
            let problem = client.status().borrow().problem.clone();
            let exit = problem.as_ref().map_or(Exit::NoRelay, exit_of_problem);
            let told = format!(
                "{}. The words are not good yet: they are stored on this device and made good the next time the relay is reached; `zerok recovery status` tells",
                ClientError::TimedOut(problem)
            );
            return Err(Failure::new(exit, told));
        }
    }
    // So that any device can put the slot back where a relay loses it; what is queued goes out later.
    let _ = wait_for(client, tokio::time::Instant::now() + REPORT_TIMEOUT, |status| status.outbox_count == 0).await;
    if global.output.json {
        global.output.line(String::new, || json!({ "recovery": "ready" }))?;
    } else {
        eprintln!(
            "zerok: the words are good. With them and a relay's address the group comes back: zerok recovery restore"
        );
    }
    Ok(())
}

/// Shows the words, once.
fn show(global: &Global, words: &RecoveryWords) -> Result<(), Failure> {
    if global.output.json {
        let phrase = words.phrase();
        return Ok(global.output.line(String::new, || json!({ "words": *phrase }))?);
    }
    eprintln!(
        "Write these 24 words down, on paper, in this order. They are not shown again, and who has them has everything in the group."
    );
    for (row, words) in words.list().chunks(COLUMNS).enumerate() {
        let cell = |(column, word): (usize, &&str)| format!("{:>2}. {word:<12}", row * COLUMNS + column + 1);
        let line: String = words.iter().enumerate().map(cell).collect();
        global.output.line(|| line.trim_end().to_owned(), || json!(null))?;
    }
    Ok(())
}

/// Whether the person has them on paper: asks for three.
async fn ask(draft: &RecoveryDraft) -> Result<(), Failure> {
    let mut lines = Lines::default();
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        eprint!("Press Enter when they are on paper; the screen is cleared then. ");
        lines.next().await;
        // Screen and scrollback.
        print!("\x1b[2J\x1b[3J\x1b[H");
        std::io::stdout().flush()?;
    }
    let mut slips = 0;
    for number in draft.asked {
        loop {
            eprint!("Type word {number}: ");
            let Some(typed) = lines.next().await else {
                return Err(not_confirmed("nobody typed the words that were asked for; scripts say --yes"));
            };
            if draft.words.is_word(number, &typed) {
                break;
            }
            slips += 1;
            if slips == SLIPS_MAX {
                return Err(not_confirmed("these were not the words that were shown"));
            }
            eprintln!("That is not word {number}. Look at the paper.");
        }
    }
    Ok(())
}

fn not_confirmed(why: &str) -> Failure {
    Failure::usage(format!("{why}: no words were made. Run it again, and write the new ones down"))
}

/// Only its owner can read the file, and it was not there before.
async fn write_sheet(client: &Client, file: &Path, words: &RecoveryWords) -> Result<(), Failure> {
    let sheet = client.recovery_sheet(words.clone()).await?;
    let is_page = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("html"));
    let text = if is_page { sheet.html() } else { sheet.text() };
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(file).and_then(|mut opened| opened.write_all(text.as_bytes()));
    written.map_err(|error| Failure::other(format!("cannot write {}: {error}", file.display())))
}

pub async fn status(global: &Global) -> Result<(), Failure> {
    let session = Session::open(global, true).await?;
    if let Err(error) = catch_up(&session.client, REPORT_TIMEOUT).await {
        eprintln!("zerok: as of the last contact with the relay ({error})");
    }
    // A relay that lost the slot gets it back within seconds.
    let settled = |status: &Status| status.recovery != Recovery::UnderWay;
    let _ = wait_for(&session.client, tokio::time::Instant::now() + REPORT_TIMEOUT, settled).await;
    let status = session.client.status().borrow().clone();
    nag(&status);
    let made_at = match status.recovery {
        Recovery::Ready { made_at_ms, .. } => Some(made_at_ms),
        Recovery::None | Recovery::UnderWay => None,
    };
    let printed = global.output.line(
        || told(&status),
        || {
            let made_by = maker(&status).map(|member| member.device.to_string());
            json!({ "recovery": word(&status), "made_at": made_at, "made_by": made_by })
        },
    );
    session.close(printed.map_err(Failure::from)).await
}

pub async fn restore(global: &Global, options: &RecoveryRestore) -> Result<(), Failure> {
    // Before anything is read from standard input, which may be the terminal that this is typed at.
    let passphrase = match secret::of_home(&global.home).await? {
        // What was cut off there begins again under the same lock.
        Some(passphrase) => Some(passphrase),
        None if options.passphrase => Some(secret::chosen(secret::HOME, secret::NEW).await?),
        None => None,
    };
    let words = read_words().await?;
    let mut restore = RestoreOptions::new(&global.home, words, &options.relay);
    restore.relay_key = options.relay_key;
    restore.transport = global.transport;
    restore.timeout = options.timeout;
    if let Some(name) = &options.name {
        restore.device_name.clone_from(name);
    }
    restore.passphrase = passphrase;
    let client = Client::restore(restore).await?;
    let status = client.status().borrow().clone();
    let lost: Vec<_> = status.members.iter().filter(|member| !member.own && !member.paper).collect();
    let entries = count(status.position, "entry", "entries");
    eprintln!("zerok: the group is back: {entries} from {}", status.relay.url);
    if !lost.is_empty() {
        let names: Vec<String> = lost.iter().map(|member| shown(&member.name)).collect();
        eprintln!(
            "zerok: these devices are still in the group: {}. Remove each that is lost: zerok revoke NAME. The words stay good; if somebody else may have seen them, make new ones: zerok recovery create",
            names.join(", ")
        );
    }
    let printed = match global.output.json {
        true => global.output.line(String::new, || {
            json!({
                "device": status.device.to_string(),
                "name": status.device_name,
                "relay": status.relay.url,
                "position": status.position,
                "others": lost.iter().map(|member| member.device.to_string()).collect::<Vec<_>>(),
            })
        }),
        false => Ok(()),
    };
    Session { client }.close(printed.map_err(Failure::from)).await
}

/// The words, from standard input: at a terminal until they fit, otherwise all that is there.
async fn read_words() -> Result<RecoveryWords, Failure> {
    let terminal = std::io::stdin().is_terminal();
    let mut lines = Lines::default();
    loop {
        if terminal {
            eprintln!("Type the 24 words of the sheet, four letters of each are enough. An empty line ends them.");
        }
        let mut typed = String::new();
        let ended = loop {
            match lines.next().await {
                Some(line) if terminal && line.trim().is_empty() => break false,
                Some(line) => {
                    typed.push_str(&line);
                    typed.push('\n');
                    // More than that is not looked at.
                    if typed.len() > zerok_sync::RECOVERY_TEXT_BYTES_MAX {
                        break true;
                    }
                }
                None => break true,
            }
        };
        match typed.parse() {
            Ok(words) => return Ok(words),
            Err(error) if terminal && !ended => eprintln!("zerok: {error}"),
            Err(error) => return Err(Failure::usage(format!("{error}. Nothing was sent"))),
        }
    }
}
