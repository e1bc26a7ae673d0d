//! Looks through everything a relay and its database have written for what must not be there: the
//! very texts that were pushed, names and identities, in every form in which bytes are written
//! down; and, in logs, anything that looks like an id or a client's address.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::trace::Leak;

/// Bytes of a file that are looked at at a time.
const PIECE_BYTES: usize = 4 << 20;
/// A needle shorter than this would be found by chance.
const NEEDLE_BYTES_MIN: usize = 8;
/// Hex digits in a row that make an id: the shortest has eight bytes.
const ID_DIGITS: usize = 16;
const BASE64: [&[u8; 64]; 2] = [
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
];

/// What to look for.
#[derive(Debug, Default)]
pub struct Search {
    needles: Vec<(Vec<u8>, String)>,
    /// Needles by their first two bytes.
    by_start: HashMap<[u8; 2], Vec<usize>>,
    /// Whether a needle starts with these two bytes: most places in a file are dismissed by it.
    starts: Vec<bool>,
    longest: usize,
}

impl Search {
    /// A search for nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { starts: vec![false; 1 << 16], ..Self::default() }
    }

    /// Looks for these bytes, too: raw, in hex, and in base64 at every offset.
    #[must_use]
    pub fn with(mut self, what: &str, secret: &[u8]) -> Self {
        for (form, needle) in forms(secret) {
            assert!(needle.len() >= NEEDLE_BYTES_MIN, "{what} is too short to be looked for");
            let start = [needle[0], needle[1]];
            self.starts[usize::from(u16::from_be_bytes(start))] = true;
            self.by_start.entry(start).or_default().push(self.needles.len());
            self.longest = self.longest.max(needle.len());
            self.needles.push((needle, format!("{what} ({form})")));
        }
        self
    }

    /// What a piece of bytes holds.
    fn found_in<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = &'a str> {
        let places = bytes.windows(2).enumerate();
        let likely = places.filter(|(_, pair)| self.starts[usize::from(u16::from_be_bytes([pair[0], pair[1]]))]);
        likely.flat_map(move |(at, pair)| {
            let candidates = self.by_start.get(&[pair[0], pair[1]]).into_iter().flatten();
            candidates.filter_map(move |&needle| {
                let (needle, what) = &self.needles[needle];
                bytes[at..].starts_with(needle).then_some(what.as_str())
            })
        })
    }

    /// Looks through every file below a folder; says how many bytes that were.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn folder(&self, folder: &Path, leaks: &mut Vec<Leak>) -> Result<u64> {
        let mut bytes = 0;
        for file in files(folder)? {
            bytes += self.file(&file, leaks)?;
        }
        Ok(bytes)
    }

    fn file(&self, path: &Path, leaks: &mut Vec<Leak>) -> Result<u64> {
        let mut file = std::fs::File::open(path)?;
        let mut window = Vec::new();
        let mut bytes = 0;
        loop {
            let read = file.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut window)?;
            if read == 0 {
                return Ok(bytes);
            }
            bytes += read as u64;
            for what in self.found_in(&window) {
                let leak = Leak { file: path.display().to_string(), what: what.to_owned() };
                if !leaks.contains(&leak) {
                    leaks.push(leak);
                }
            }
            // What begins in one piece may end in the next.
            let keep = window.len().min(self.longest.saturating_sub(1));
            window.drain(..window.len() - keep);
        }
    }
}

/// Every file below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            found.extend(files(&entry.path())?);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// The forms in which bytes may be written down.
fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let hex = hex::encode(secret);
    let mut forms = vec![("raw", secret.to_vec()), ("hex", hex.to_uppercase().into_bytes()), ("hex", hex.into_bytes())];
    for alphabet in BASE64 {
        // Inside a longer text the bytes begin at one of three offsets; the characters at either
        // end depend on their neighbours.
        for offset in 0..3 {
            let digit = |at: usize| {
                let bit = at * 6 - offset * 8;
                let two = u16::from_be_bytes([secret[bit / 8], secret.get(bit / 8 + 1).copied().unwrap_or(0)]);
                alphabet[usize::from((two >> (10 - bit % 8)) & 63)]
            };
            let first = (offset * 8).div_ceil(6);
            let end = (offset + secret.len()) * 8 / 6;
            forms.push(("base64", (first..end).map(digit).collect()));
        }
    }
    forms.dedup();
    forms
}

/// Lines of a relay's log that hold what looks like an id, or an address that is not one of its own.
#[must_use]
pub fn telling_lines<'a>(log: &'a str, own_ports: &[u16]) -> Vec<&'a str> {
    let tells = |line: &str| {
        let is_id = |word: &str| word.len() >= ID_DIGITS && word.bytes().any(|byte| byte.is_ascii_digit());
        line.split(|c: char| !c.is_ascii_hexdigit()).any(is_id)
            || line.match_indices("127.0.0.1:").any(|(at, prefix)| {
                let behind = &line[at + prefix.len()..];
                let digits = behind.bytes().take_while(u8::is_ascii_digit).count();
                behind[..digits].parse().is_ok_and(|port: u16| !own_ports.contains(&port))
            })
    };
    log.lines().filter(|line| tells(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"the quick brown fox";

    fn search() -> Search {
        Search::new().with("a text", SECRET)
    }

    /// RFC 4648, with padding left out: written apart from the search.
    fn base64(bytes: &[u8], alphabet: &[u8; 64]) -> Vec<u8> {
        let digits = bytes.chunks(3).flat_map(|three| {
            let word = three.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
            (0..=three.len()).map(move |digit| alphabet[(word >> (18 - 6 * digit) & 63) as usize])
        });
        digits.collect()
    }

    #[test]
    fn every_form_is_found_at_every_offset() {
        let search = search();
        for before in ["", "x", "xy", "xyz"] {
            let text = [before.as_bytes(), SECRET, b"behind"].concat();
            let written = [
                text.clone(),
                hex::encode(&text).into_bytes(),
                hex::encode_upper(&text).into_bytes(),
                base64(&text, BASE64[0]),
                base64(&text, BASE64[1]),
            ];
            for written in written {
                assert!(search.found_in(&written).next().is_some(), "{}", String::from_utf8_lossy(&written));
            }
        }
        assert_eq!(base64(b"foobar!", BASE64[0]), b"Zm9vYmFyIQ");
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        assert_eq!(search().found_in(b"the quick brown FOX and 746865").next(), None);
    }

    #[test]
    fn a_secret_across_two_pieces_of_a_file_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep = folder.path().join("a/b");
        std::fs::create_dir_all(&deep).expect("made");
        let mut content = vec![b'.'; PIECE_BYTES - 5];
        content.extend_from_slice(SECRET);
        std::fs::write(deep.join("file"), &content).expect("written");
        let mut leaks = Vec::new();
        assert_eq!(search().folder(folder.path(), &mut leaks).expect("read"), content.len() as u64);
        assert!(matches!(&leaks[..], [leak] if leak.what == "a text (raw)"), "{leaks:?}");
    }

    #[test]
    fn ids_and_addresses_of_clients_are_seen_in_logs() {
        let told = ["peer 127.0.0.1:50001 left", "blob 00112233445566778899aabbccddeeff", "[127.0.0.1:4]"];
        let silent = ["listening on 127.0.0.1:8080", "group=[redacted] 2026-11-23T00:07:09.123456Z", "deadbeef"];
        let log = [told, silent].concat().join("\n");
        assert_eq!(telling_lines(&log, &[8080]), told);
    }
}
