//! What goes to stdout: plain lines for people, one JSON object a line for programs.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use zerok_sync::Entry;

/// How to print.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    pub json: bool,
}

impl Output {
    /// Prints one line, in the form asked for, and hands it over at once.
    pub fn line(self, text: impl FnOnce() -> String, json: impl FnOnce() -> Value) -> io::Result<()> {
        let line = if self.json { json().to_string() } else { text() };
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{line}")?;
        stdout.flush()
    }

    /// Prints an entry.
    pub fn entry(self, entry: &Entry) -> io::Result<()> {
        self.line(|| entry_text(&entry.data), || entry_json(entry))
    }
}

/// Text as it is, with line breaks escaped; anything else as base64.
fn entry_text(data: &[u8]) -> String {
    match printable(data) {
        Some(text) => text.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t"),
        None => format!("base64:{}", STANDARD.encode(data)),
    }
}

fn entry_json(entry: &Entry) -> Value {
    let mut object = json!({
        "position": entry.position,
        "cursor": entry.cursor,
        "blob_id": entry.blob_id.to_string(),
        "sender": entry.sender.to_string(),
        "sent_at": entry.sent_at_ms,
        "own": entry.own,
    });
    if entry.snapshot {
        object["snapshot"] = true.into();
    }
    match std::str::from_utf8(&entry.data) {
        Ok(text) => object["text"] = text.into(),
        Err(_) => object["data"] = STANDARD.encode(&entry.data).into(),
    }
    object
}

/// Text that moves no cursor and changes no colour of the terminal it is printed on.
fn printable(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data)
        .ok()
        .filter(|text| text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_line_whatever_is_in_it() {
        assert_eq!(entry_text(b"hello"), "hello");
        assert_eq!(entry_text("grüße 🎉".as_bytes()), "grüße 🎉");
        assert_eq!(entry_text(b"a\r\nb\tc\\n"), r"a\r\nb\tc\\n");
        assert_eq!(entry_text(b"\x1b[31m"), "base64:G1szMW0=");
        assert_eq!(entry_text(b"\xff\x00"), "base64:/wA=");
        assert_eq!(entry_text(b""), "");
    }
}
