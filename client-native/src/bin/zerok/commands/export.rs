//! `zerok export` and `zerok import`: a group in a file, and back.

use serde_json::json;
use zerok_sync::{Archive, Client, ExportOptions, ImportOptions};

use super::{Session, shown};
use crate::args::{Export, Global, Import};
use crate::exit::Failure;
use crate::secret;

pub async fn export(global: &Global, options: &Export) -> Result<(), Failure> {
    let passphrase = secret::chosen(secret::FILE, secret::FILE).await?;
    // What is stored here is what is exported: the relay is not needed.
    let session = Session::open(global, false).await?;
    let written = session.client.export(&options.file, ExportOptions { passphrase, identity: options.identity }).await;
    let printed = match written {
        Ok(entries) => {
            let file = options.file.display();
            let identity = if options.identity {
                "with this device's identity: whoever has the file and its passphrase can be this device"
            } else {
                "to be read with `zerok import --read`"
            };
            if !global.output.json {
                eprintln!("zerok: {entries} envelopes are in {file}, {identity}");
            }
            let object = || json!({ "envelopes": entries, "file": file.to_string(), "identity": options.identity });
            if global.output.json { global.output.line(String::new, object).map_err(Failure::from) } else { Ok(()) }
        }
        Err(error) => Err(error.into()),
    };
    session.close(printed).await
}

pub async fn import(global: &Global, options: &Import) -> Result<(), Failure> {
    let question = format!("Passphrase of {}: ", options.file.display());
    let file_passphrase = secret::given(secret::FILE, question).await?;
    if options.read {
        let archive = Archive::open(&options.file, &file_passphrase)?;
        eprintln!("zerok: entries of the group of {:?}", shown(&archive.group().device_name));
        for entry in archive {
            global.output.entry(&entry?)?;
        }
        return Ok(());
    }
    let passphrase = if options.passphrase { Some(secret::chosen(secret::HOME, secret::NEW).await?) } else { None };
    let (file, home) = (options.file.clone(), global.home.clone());
    let entries = Client::import(ImportOptions { file, file_passphrase, home, passphrase }).await?;
    if global.output.json {
        global.output.line(String::new, || json!({ "envelopes": entries }))?;
    } else {
        eprintln!(
            "zerok: {} is this device as it was when the file was written, with {entries} envelopes. Do not go on using the home that it was exported from: of two that write, one is shut out",
            global.home.display()
        );
    }
    Ok(())
}
