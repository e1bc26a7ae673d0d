//! `relay.example.toml`: every setting with its default, commented out, made from the table.

use std::fmt::Write;

use super::settings::{Fallback, SETTINGS, Setting, is_limit};

/// Columns of a comment.
const WIDTH: usize = 96;
const HEAD: &str = "\
# Settings of zerok-relay. Every line that is commented out shows a default, or an example where
# it says so. The relay reads relay.toml in the folder where it is started, or the file named by
# --config. A flag (--data-dir) wins over an environment variable (ZEROK_RELAY_DATA_DIR), that over
# a line in here. `zerok-relay check-config` shows what holds and where it was set.
";

/// The text of the file.
#[must_use]
pub fn example() -> String {
    let mut text = HEAD.to_owned();
    let mut in_limits = false;
    for setting in SETTINGS.iter() {
        if is_limit(setting) && !in_limits {
            in_limits = true;
            text.push_str("\n# --- Limits and deadlines ---\n");
        }
        text.push('\n');
        for line in wrapped(&setting.help) {
            writeln!(text, "# {line}").expect("a String takes everything");
        }
        let value = match &setting.default {
            Fallback::Text(value) => value,
            Fallback::Depends { words, example } => {
                writeln!(text, "# Default: {words}. Example:").expect("a String takes everything");
                *example
            }
        };
        writeln!(text, "#{} = {}", setting.key(), as_toml(setting, value)).expect("a String takes everything");
    }
    text
}

/// Numbers and switches stand bare.
fn as_toml(setting: &Setting, value: &str) -> String {
    let bare = setting.value.is_none() || value.parse::<u64>().is_ok();
    if bare { value.to_owned() } else { format!("\"{value}\"") }
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always one");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, flags, settings};

    fn read(file: &str) -> Settings {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("relay.toml");
        std::fs::write(&path, file).expect("written");
        let args = ["zerok-relay", "--config", path.to_str().expect("UTF-8")];
        let matches = clap::Command::new("zerok-relay").args(flags()).get_matches_from(args);
        settings(&matches, [("HOME".to_owned(), "/home".to_owned())]).expect("the example is valid")
    }

    /// The lines that set something, without the `#` before them.
    fn uncommented(keep: impl Fn(&Setting) -> bool) -> String {
        example()
            .lines()
            .filter_map(|line| line.strip_prefix('#').filter(|line| !line.starts_with(' ')))
            .filter(|line| {
                let key = line.split(' ').next().expect("a line");
                SETTINGS.iter().any(|setting| setting.key() == key && keep(setting))
            })
            .map(|line| format!("{line}\n"))
            .collect()
    }

    /// Run with `WRITE_LIMITS=1` to bring the file up to date, as for `docs/LIMITS.md`.
    #[test]
    fn the_file_in_the_repository_is_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/relay.example.toml");
        if std::env::var_os("WRITE_LIMITS").is_some() {
            std::fs::write(path, example()).expect("written");
        }
        let written = std::fs::read_to_string(path).expect("relay.example.toml is there");
        assert!(
            written == example(),
            "relay/relay.example.toml differs from the table of settings: WRITE_LIMITS=1 cargo test -p zerok-sync-relay --lib"
        );
    }

    #[test]
    fn every_default_in_the_example_is_the_default() {
        let defaults = uncommented(|setting| matches!(setting.default, Fallback::Text(_)));
        assert_eq!(read(&defaults).config, read("").config);
    }

    #[test]
    fn every_setting_is_in_the_example_and_its_example_is_accepted() {
        // A directory that has to be there.
        let lines = uncommented(|setting| setting.name != "web-root");
        assert_eq!(lines.lines().count() + 1, SETTINGS.len());
        let set = read(&lines);
        let unset: Vec<_> = set.effective.iter().filter(|effective| effective.source == "default").collect();
        assert_eq!(unset.len(), 1, "{unset:?}");
    }
}
