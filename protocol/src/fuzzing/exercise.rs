//! Fuzzing's poor relation, for stable: a corpus and seeded mutations of it.

use std::path::Path;

use super::SeededRng;

/// Inputs do not grow past this.
const INPUT_BYTES_MAX: usize = 64 * 1024;
/// Bytes that tend to mean something: MessagePack markers, extremes.
const INTERESTING: [u8; 14] = [0, 1, 2, 0x7f, 0x80, 0x90, 0x9f, 0xc0, 0xc4, 0xc6, 0xd9, 0xdc, 0xdd, 0xff];

/// Runs `target` on every file of a corpus and on `mutations` mutations of them, the same ones
/// each time. A panicking input is printed in hex.
///
/// # Panics
/// When the corpus is missing or empty, or when `target` does.
pub fn exercise(corpus: &Path, mutations: u32, target: impl Fn(&[u8])) {
    let inputs = read(corpus);
    assert!(!inputs.is_empty(), "{} holds no inputs", corpus.display());
    let run = |input: &[u8]| {
        let _report = ReportOnPanic(input);
        target(input);
    };
    inputs.iter().for_each(|input| run(input));
    for mutation in 0..mutations {
        let mut rng = SeededRng::new(&mutation.to_le_bytes());
        let mut input = inputs[rng.below(inputs.len())].clone();
        for _ in 0..=rng.below(4) {
            mutate(&mut input, &inputs, &mut rng);
        }
        run(&input);
    }
}

fn read(corpus: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a readable file")).collect()
}

fn mutate(input: &mut Vec<u8>, others: &[Vec<u8>], rng: &mut SeededRng) {
    let at = rng.below(input.len() + 1);
    let until = at + rng.below(input.len() - at + 1);
    let interesting = INTERESTING[rng.below(INTERESTING.len())];
    match rng.below(7) {
        0 if at < input.len() => input[at] ^= 1 << rng.below(8),
        1 if at < input.len() => input[at] = interesting,
        2 => input.truncate(at),
        3 => drop(input.drain(at..until)),
        4 => input.insert(at, interesting),
        5 => {
            let repeated = input[at..until].to_vec();
            input.splice(at..at, repeated);
        }
        _ => {
            let other = &others[rng.below(others.len())];
            let from = rng.below(other.len() + 1);
            input.truncate(at);
            input.extend(&other[from..]);
        }
    }
    input.truncate(INPUT_BYTES_MAX);
}

struct ReportOnPanic<'a>(&'a [u8]);

impl Drop for ReportOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failing input: {}", hex::encode(self.0));
        }
    }
}
