//! `zerok passphrase`: lock this home, lock it otherwise, or leave it unlocked.

use serde_json::json;
use zerok_sync::Client;

use crate::args::{Global, Passphrase};
use crate::exit::Failure;
use crate::secret;

pub async fn run(global: &Global, change: &Passphrase) -> Result<(), Failure> {
    let locked = Client::is_locked(&global.home)?;
    let home = global.home.display();
    match (change, locked) {
        (Passphrase::Set, true) => {
            return Err(Failure::usage(format!("{home} is locked already: `zerok passphrase change`")));
        }
        (Passphrase::Change, false) => {
            return Err(Failure::usage(format!("{home} is not locked: `zerok passphrase set`")));
        }
        (Passphrase::Remove, false) => {
            return Err(Failure::usage(format!("{home} is not locked: there is nothing to remove")));
        }
        _ => {}
    }
    let current = secret::of_home(&global.home).await?;
    let new = match change {
        // There is no passphrase yet that the other variable could hold.
        Passphrase::Set => Some(secret::chosen(secret::NEW, secret::HOME).await?),
        Passphrase::Change => Some(secret::chosen(secret::NEW, secret::NEW).await?),
        Passphrase::Remove => None,
    };
    let locked = new.is_some();
    Client::set_passphrase(&global.home, current, new).await?;
    if global.output.json {
        global.output.line(String::new, || json!({ "locked": locked }))?;
    } else if locked {
        eprintln!(
            "zerok: {home} opens with this passphrase only; nobody can tell you what it was. Copies of it that were made before open as they did then"
        );
    } else {
        eprintln!("zerok: {home} opens without a passphrase now");
    }
    Ok(())
}
