//! Passphrases: from the environment for scripts, else from the terminal without an echo.
//!
//! Never from an argument, which every process of the machine can read.

use std::path::Path;

use zerok_sync::{Client, Passphrase};

use crate::exit::{Exit, Failure};

/// The variable with this home's passphrase.
pub const HOME: &str = "ZEROK_PASSPHRASE";
/// The variable with the passphrase to set.
pub const NEW: &str = "ZEROK_NEW_PASSPHRASE";

/// The variable with an export file's passphrase.
pub const FILE: &str = "ZEROK_EXPORT_PASSPHRASE";

/// What opens a home: nothing if it is not locked or there is none.
pub async fn of_home(home: &Path) -> Result<Option<Passphrase>, Failure> {
    // What is wrong with a home is said where it is opened.
    if !matches!(Client::is_locked(home), Ok(true)) {
        return Ok(None);
    }
    let question = format!("Passphrase of {}: ", home.display());
    given(HOME, question).await.map(Some)
}

/// A passphrase to try.
pub async fn given(variable: &'static str, question: String) -> Result<Passphrase, Failure> {
    match from_environment(variable)? {
        Some(text) => Ok(Passphrase::given(text)),
        None => Ok(Passphrase::given(asked(variable, question).await?)),
    }
}

/// A passphrase to set: from the first of the variables that is there; typed twice otherwise.
pub async fn chosen(first: &'static str, second: &'static str) -> Result<Passphrase, Failure> {
    let text = match from_environment(first)? {
        None => from_environment(second)?,
        text => text,
    };
    let text = match text {
        Some(text) => text,
        None => {
            let text = asked(first, "New passphrase: ".into()).await?;
            if text != asked(first, "The same again: ".into()).await? {
                return Err(Failure::usage("these are two different passphrases: nothing was changed".into()));
            }
            text
        }
    };
    Passphrase::chosen(text).map_err(|error| Failure::usage(error.to_string()))
}

fn from_environment(variable: &str) -> Result<Option<String>, Failure> {
    match std::env::var(variable) {
        Ok(text) => Ok(Some(text)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(Failure::usage(format!("{variable} is not UTF-8"))),
    }
}

async fn asked(variable: &'static str, question: String) -> Result<String, Failure> {
    let answer = tokio::task::spawn_blocking(move || rpassword::prompt_password(question)).await;
    match answer {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(_)) => {
            let told = format!("a passphrase is needed: run this at a terminal, or set {variable}");
            Err(Failure::new(Exit::NotAuthorised, told))
        }
        Err(_) => Err(Failure::other("nobody answered".into())),
    }
}
