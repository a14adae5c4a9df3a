//! The output of the demo: at most 80 columns, with colours on a terminal.

use std::io;

use clap::builder::styling::{AnsiColor, Style};
use zmqv2_broker::cli::{Unwritable, say, shows_colors};

const COLUMNS: usize = 80;
/// How much further the rest of a long line is indented.
const CONTINUED: usize = 2;

/// What a line is. It decides on indent and colour.
#[derive(Debug, Clone, Copy)]
pub(super) enum Line {
    Heading,
    /// A command of the tool.
    Command,
    /// Something that a process of the demo has done.
    Event,
    /// What a command or process prints.
    Output,
    /// What a command prints that fails on purpose.
    Error,
    /// A measurement.
    Figure,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    colors: bool,
}

impl Line {
    fn indent(self) -> usize {
        match self {
            Self::Heading => 0,
            Self::Command | Self::Event | Self::Figure => 2,
            Self::Output | Self::Error => 4,
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Heading => Style::new().bold(),
            Self::Command => AnsiColor::Cyan.on_default(),
            Self::Event | Self::Output => Style::new(),
            Self::Error => AnsiColor::Yellow.on_default(),
            Self::Figure => AnsiColor::Green.on_default().bold(),
        }
    }
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { colors: shows_colors(&io::stdout()) }
    }

    /// Prints a heading, after an empty line.
    pub(super) fn heading(self, text: &str) -> Result<(), Unwritable> {
        say("")?;
        self.say(Line::Heading, text)
    }

    /// Prints a text as one line, or as several if it is long.
    pub(super) fn say(self, line: Line, text: &str) -> Result<(), Unwritable> {
        let style = if self.colors { line.style() } else { Style::new() };
        for (indent, part) in wrapped(text, line.indent()) {
            say(format_args!("{:indent$}{style}{part}{style:#}", ""))?;
        }
        Ok(())
    }
}

/// The parts of a text that fit, each with its indent. JSON is broken after a comma, other text at
/// a space, and a word that is too long anywhere.
fn wrapped(text: &str, indent: usize) -> Vec<(usize, &str)> {
    let (json, mut rest, mut margin, mut parts) = (text.starts_with('{'), text, indent, Vec::new());
    loop {
        let room = COLUMNS - margin;
        let Some((end, _)) = rest.char_indices().nth(room) else {
            parts.push((margin, rest));
            return parts;
        };
        let cut = if json {
            rest[..end].rfind(',').map(|comma| comma + 1)
        } else {
            // A space behind the last column may be left out.
            rest.char_indices().take(room + 1).filter(|(_, c)| *c == ' ').last().map(|(space, _)| space)
        };
        let (part, more) = rest.split_at(cut.filter(|cut| *cut > 0).unwrap_or(end));
        parts.push((margin, part.trim_end()));
        (rest, margin) = (more.trim_start(), indent + CONTINUED);
    }
}

/// A number with a comma between thousands.
pub(super) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken_at_spaces_and_json_after_commas() {
        let nine = "123456789 ".repeat(9);
        let expected = [(4, &nine[..69]), (6, "123456789 123456789 ")];
        assert_eq!(wrapped(&nine, 4), expected);
        assert_eq!(wrapped("short", 2), [(2, "short")]);
        let exact = "x".repeat(80);
        assert_eq!(wrapped(&exact, 0), [(0, exact.as_str())]);
        let json = format!("{{\"a\":\"{}\",\"b\": \"c d\"}}", "x".repeat(70));
        assert_eq!(wrapped(&json, 0), [(0, &json[..78]), (2, "\"b\": \"c d\"}")]);
    }

    #[test]
    fn no_text_exceeds_the_columns_and_nothing_is_lost() {
        let texts =
            ["x".repeat(300), "ü ".repeat(200), format!("a {}", "é".repeat(200)), format!("{{{}", "1, ".repeat(99))];
        for text in texts {
            let parts = wrapped(&text, 4);
            for (indent, part) in &parts {
                assert!(indent + part.chars().count() <= COLUMNS, "{part}");
            }
            let without_spaces = |text: &str| text.replace(' ', "");
            let all: String = parts.iter().map(|(_, part)| without_spaces(part)).collect();
            assert_eq!(all, without_spaces(&text));
        }
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!([0, 999, 1000, 12_345, 1_234_567].map(thousands), ["0", "999", "1,000", "12,345", "1,234,567"]);
    }
}
