//! A link as a QR code that a phone reads off a terminal.

use qrcodegen::{QrCode, QrCodeEcc};

/// Light modules around the code: scanners need four.
const BORDER: i32 = 4;

/// The code in half-block characters, two modules high each, dark on light whatever the terminal's
/// colours are.
pub fn for_terminal(text: &str) -> Result<String, String> {
    // The screen is near and nothing covers it: the least correction makes the largest modules.
    let code = QrCode::encode_text(text, QrCodeEcc::Low)
        .map_err(|_| "this link does not fit a QR code: use it as text".to_owned())?;
    let rows = (-BORDER..code.size() + BORDER).step_by(2);
    let row = |y: i32| {
        let columns = -BORDER..code.size() + BORDER;
        // Outside of the code `get_module` says light.
        let line: String = columns.map(|x| block(code.get_module(x, y), code.get_module(x, y + 1))).collect();
        // Black on white, and back.
        format!("\x1b[30;107m{line}\x1b[0m")
    };
    Ok(rows.map(row).collect::<Vec<_>>().join("\n"))
}

fn block(upper: bool, lower: bool) -> char {
    match (upper, lower) {
        (false, false) => ' ',
        (true, false) => '▀',
        (false, true) => '▄',
        (true, true) => '█',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The modules as a scanner sees them.
    fn modules(drawn: &str) -> Vec<Vec<bool>> {
        let mut modules = Vec::new();
        for line in drawn.lines() {
            let line = line.strip_prefix("\x1b[30;107m").and_then(|line| line.strip_suffix("\x1b[0m"));
            let line: Vec<char> = line.expect("black on white").chars().collect();
            modules.push(line.iter().map(|c| matches!(c, '▀' | '█')).collect());
            modules.push(line.iter().map(|c| matches!(c, '▄' | '█')).collect());
        }
        modules
    }

    #[test]
    fn what_is_drawn_is_the_code_with_its_border() {
        let text = "https://relay.example/#0k1.AAAA";
        let code = QrCode::encode_text(text, QrCodeEcc::Low).expect("short");
        let drawn = modules(&for_terminal(text).expect("short"));
        let size = code.size() + 2 * BORDER;
        for (y, row) in (0..size).zip(&drawn) {
            for (x, dark) in (0..size).zip(row) {
                assert_eq!(*dark, code.get_module(x - BORDER, y - BORDER), "{x} {y}");
            }
            assert_eq!(row.len(), usize::try_from(size).expect("positive"));
        }
    }

    #[test]
    fn what_does_not_fit_is_said() {
        assert!(for_terminal(&"x".repeat(4_000)).is_err());
    }
}
