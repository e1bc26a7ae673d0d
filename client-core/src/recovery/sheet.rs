//! The sheet to be printed: the words, and where the group is found with them.

use std::fmt::Write;

use zeroize::Zeroizing;

use super::words::{RecoveryWords, WORDS};
use crate::io::RelayAddress;

const COLUMNS: usize = 4;

/// What is printed. Both forms hold the words: wipe what was made of it, and delete files.
#[derive(Debug, Clone)]
pub struct RecoverySheet {
    /// The words.
    pub words: RecoveryWords,
    /// The group's relays, the home relay first.
    pub relays: Vec<RelayAddress>,
    /// The device that made the words.
    pub device_name: String,
}

impl RecoverySheet {
    /// As plain text.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        let mut text = String::with_capacity(4 * 1024);
        text.push_str("0k-Sync recovery words\n\n");
        for row in self.words.list().chunks(COLUMNS).enumerate() {
            for (column, word) in row.1.iter().enumerate() {
                let _ = write!(text, "{:>2}. {word:<12}", row.0 * COLUMNS + column + 1);
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        let _ = writeln!(text, "\nMade on the device {:?}. The group is kept at:\n", self.device_name);
        for relay in &self.relays {
            let _ = writeln!(text, "  {}", relay.url);
            if let Some(key) = &relay.key {
                let _ = writeln!(text, "  key {key}");
            }
        }
        let _ = write!(
            text,
            "\nWhoever has these words has everything in the group. Keep the sheet where you keep\n\
             papers that matter, and nowhere online.\n\n\
             If every device is lost: on a new one open the app and choose \"restore\", with an\n\
             address above and its key; or install zerok there and run\n\n  \
             zerok recovery restore --relay {}\n\n\
             Type the words, and remove the lost devices. The first four letters of a word are enough.\n",
            self.relays.first().map_or("URL", |relay| &relay.url)
        );
        Zeroizing::new(text)
    }

    /// As one page of HTML that loads nothing.
    #[must_use]
    pub fn html(&self) -> Zeroizing<String> {
        let mut page = String::with_capacity(8 * 1024);
        page.push_str(concat!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n",
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n",
            "<title>0k-Sync recovery words</title>\n<style>\n",
            "body { font: 12pt/1.5 serif; margin: 2cm; color: #000; background: #fff }\n",
            "ol { columns: 3; padding-left: 2em } li { font: 14pt/1.9 monospace; break-inside: avoid }\n",
            "code { overflow-wrap: anywhere }\n</style>\n<h1>Recovery words</h1>\n",
            // A browser that translates the page would send the words away, and print others.
            "<ol translate=\"no\" class=\"notranslate\">\n",
        ));
        for word in self.words.list() {
            let _ = writeln!(page, "<li>{word}</li>");
        }
        let _ = writeln!(
            page,
            "</ol>\n<p>Made on the device \u{201c}{}\u{201d}. The group is kept at:</p>\n<ul>",
            escaped(&self.device_name)
        );
        for relay in &self.relays {
            let key = relay.key.map_or_else(String::new, |key| format!("<br>key <code>{key}</code>"));
            let _ = writeln!(page, "<li><code>{}</code>{key}</li>", escaped(&relay.url));
        }
        page.push_str(concat!(
            "</ul>\n<p>Whoever has these words has everything in the group. Keep this sheet where you keep papers ",
            "that matter, and nowhere online.</p>\n<p>If every device is lost: on a new one open the app and choose ",
            "<em>restore</em>, or run <code>zerok recovery restore</code>, with an address above and its key. Type the ",
            "words, and remove the lost devices. The first four letters of a word are enough.</p>\n</html>\n",
        ));
        Zeroizing::new(page)
    }
}

const _: () = assert!(WORDS.is_multiple_of(COLUMNS));

/// Text inside an element.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use zerok_sync_protocol::NoisePublicKey;

    use super::*;

    fn sheet() -> RecoverySheet {
        RecoverySheet {
            words: RecoveryWords::from_entropy([0x7f; 32]),
            relays: vec![
                RelayAddress { url: "https://one.example".into(), key: Some(NoisePublicKey([0xab; 32])) },
                RelayAddress { url: "https://two.example".into(), key: None },
            ],
            device_name: "<b>laptop</b>".into(),
        }
    }

    #[test]
    fn both_forms_name_every_word_relay_and_key() {
        for form in [sheet().text(), sheet().html()] {
            for part in ["https://one.example", "https://two.example", &"ab".repeat(32)] {
                assert!(form.contains(part), "{part}");
            }
            assert_eq!(sheet().words.list().iter().filter(|word| form.contains(**word)).count(), WORDS);
        }
    }

    #[test]
    fn the_text_can_be_typed_back_as_it_stands() {
        let text = sheet().text();
        let table: Vec<&str> = text.lines().skip(2).take(WORDS / COLUMNS).collect();
        assert_eq!(table.join("\n").parse(), Ok(sheet().words));
    }

    #[test]
    fn no_browser_is_to_translate_the_words() {
        let page = sheet().html();
        let (_, list) = page.split_once("<ol ").expect("a list");
        assert!(list.starts_with("translate=\"no\" class=\"notranslate\">"), "{list}");
    }

    #[test]
    fn a_devices_name_is_no_markup() {
        let page = sheet().html();
        assert!(page.contains("&lt;b&gt;laptop") && !page.contains("<b>laptop"));
    }
}
