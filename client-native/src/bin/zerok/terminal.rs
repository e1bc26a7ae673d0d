//! Lines that a person types.

use std::io::BufRead;

use tokio::sync::mpsc;

/// Standard input, line by line. Reading a terminal cannot be cancelled: the thread that does it
/// ends with the process.
#[derive(Default)]
pub struct Lines {
    lines: Option<mpsc::Receiver<String>>,
}

impl Lines {
    /// The next line; nothing at the end of input. Cancel-safe.
    pub async fn next(&mut self) -> Option<String> {
        self.lines.get_or_insert_with(start).recv().await
    }
}

fn start() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            // Input that is no text is as good as none.
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}
