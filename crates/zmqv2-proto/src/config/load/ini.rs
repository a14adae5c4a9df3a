//! Reads INI files as oslo.config does, and remembers the line of each value.
//!
//! A line is `[group]`, `key = value` or `key: value`, a comment (`#` or `;` in the first column),
//! or blank. A value needs a group above it. A line that starts with white space continues the
//! value above it. Quotes around the text of a value's first line are removed. `$name` is replaced
//! later.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::config::options::value::shown;
use crate::config::report::ConfigError;

/// The largest file. A configuration has kilobytes; a larger file was given by mistake.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// One value of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) group: String,
    pub(crate) name: String,
    pub(crate) value: String,
    /// The line of the name, from 1.
    pub(crate) line: usize,
}

/// Reads the file at `path`.
pub(crate) fn read(path: &Path) -> Result<Vec<Entry>, ConfigError> {
    let unreadable = |cause| ConfigError::Unreadable { path: path.to_owned(), cause };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(ConfigError::TooLarge { path: path.to_owned(), limit: MAX_FILE_BYTES });
    }
    parse(path, &bytes)
}

/// Reads `bytes`, the content of the file at `path`.
pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Entry>, ConfigError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut group = None;
    // Whether a line with white space in front continues the last entry.
    let mut open = false;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    for (index, raw) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = index + 1;
        let wrong = |problem, expected| {
            let text = shown(&String::from_utf8_lossy(raw));
            ConfigError::Syntax { path: path.to_owned(), line, text, problem, expected }
        };
        let text = std::str::from_utf8(raw).map_err(|_| wrong("not UTF-8", "text in UTF-8"))?.trim_end();
        if text.starts_with([' ', '\t']) {
            let Some(entry) = entries.last_mut().filter(|_| open) else {
                let expected = "[group] or key = value in the first column";
                return Err(wrong("white space in front, but no value to continue", expected));
            };
            entry.value.push('\n');
            entry.value.push_str(text.trim_start());
        } else if text.is_empty() || text.starts_with(['#', ';']) {
            open = false;
        } else if let Some(rest) = text.strip_prefix('[') {
            let name = rest.strip_suffix(']').map(str::trim).unwrap_or_default();
            if name.is_empty() {
                return Err(wrong("not a group", "[group]"));
            }
            group = Some(name);
            open = false;
        } else {
            let both = text.split_once(['=', ':']);
            let (name, value) = both.ok_or_else(|| wrong("neither group nor value", "[group] or key = value"))?;
            let Some(group) = group.map(str::to_owned) else {
                return Err(wrong("a value in front of the first group", "[DEFAULT] or another [group] above it"));
            };
            let (name, value) = (name.trim().to_owned(), value.trim());
            let value = unquoted(value).unwrap_or(value).to_owned();
            if name.is_empty() {
                return Err(wrong("no key in front of the value", "key = value"));
            }
            entries.push(Entry { group, name, value, line });
            open = true;
        }
    }
    Ok(entries)
}

/// The text between quotes. A single quote is both the first and the last, as in oslo.config.
fn unquoted(text: &str) -> Option<&str> {
    let inner = |quote| text.strip_prefix(quote).filter(|_| text.ends_with(quote));
    ['"', '\''].into_iter().find_map(inner).map(|inner| inner.get(..inner.len().saturating_sub(1)).unwrap_or_default())
}

/// `value`, on one line, so that [`parse`] gives it back unchanged.
pub(crate) fn quoted(value: &str) -> String {
    let value = value.replace('$', "$$");
    if value.trim() != value || unquoted(&value).is_some() { format!("\"{value}\"") } else { value }
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "proptest")]
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Vec<(String, String, String, usize)> {
        let entries = parse(Path::new("x.conf"), text.as_bytes()).unwrap();
        entries.into_iter().map(|e| (e.group, e.name, e.value, e.line)).collect()
    }

    fn refused(bytes: &[u8]) -> String {
        parse(Path::new("x.conf"), bytes).unwrap_err().to_string()
    }

    fn row(group: &str, name: &str, value: &str, line: usize) -> (String, String, String, usize) {
        (group.to_owned(), name.to_owned(), value.to_owned(), line)
    }

    #[test]
    fn reads_what_oslo_reads() {
        let text = "\u{feff}[DEFAULT]\r\nearly = 1\r\n# note\r\n; note\r\n\r\n[Grp]\r\na: b = c\r\nd=e:f\r\n\
                    long = one\r\n   two\r\n\tthree\r\nq = \"x y \"\r\nempty =\r\n[ Grp2 ]\nz='";
        assert_eq!(
            parsed(text),
            [
                row("DEFAULT", "early", "1", 2),
                row("Grp", "a", "b = c", 7),
                row("Grp", "d", "e:f", 8),
                row("Grp", "long", "one\ntwo\nthree", 9),
                row("Grp", "q", "x y ", 12),
                row("Grp", "empty", "", 13),
                row("Grp2", "z", "", 15),
            ]
        );
    }

    #[test]
    fn errors_name_file_line_and_text() {
        assert_eq!(
            refused(b"[g]\nwhat is this\n"),
            "x.conf:2: \"what is this\": neither group nor value; expected [group] or key = value"
        );
        assert!(refused(b"\n[open\n").starts_with("x.conf:2: \"[open\": not a group"));
        assert!(refused(b"[]").starts_with("x.conf:1: \"[]\": not a group"));
        assert!(refused(b"[g]\n= 1").contains("no key"));
        assert_eq!(
            refused(b"# note\na = 1\n[DEFAULT]\n"),
            "x.conf:2: \"a = 1\": a value in front of the first group; expected [DEFAULT] or another [group] above it"
        );
        assert!(refused(b"  a = 1").contains("white space in front"));
        assert!(refused(b"[g]\na = 1\n\n  b").starts_with("x.conf:4"), "a blank line ends a value");
        assert!(refused(b"[g]\nb = \xff\n").starts_with("x.conf:2: \"b = \u{fffd}\": not UTF-8"));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing.conf");
        assert!(read(&missing).unwrap_err().to_string().contains("missing.conf: No such file"));
        assert!(read(dir.path()).unwrap_err().to_string().contains("Is a directory"));
        let large = dir.path().join("large.conf");
        std::fs::write(&large, vec![b'#'; (1 << 20) + 1]).unwrap();
        assert!(read(&large).unwrap_err().to_string().contains("more than 1048576 bytes"));
        std::fs::write(&large, vec![b'#'; 1 << 20]).unwrap();
        assert_eq!(read(&large).unwrap(), []);
    }

    #[cfg(feature = "proptest")]
    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(Path::new("x.conf"), &bytes);
        }

        #[test]
        fn any_text_is_read_or_refused(
            text in r#"(?s)([\[\]=:#; \t\r\n"'ab\u{feff}\u{e9}]|.){0,200}"#,
        ) {
            let _ = parse(Path::new("x.conf"), text.as_bytes());
        }

        #[test]
        fn a_quoted_value_comes_back(value in r#"[ a"'=:#;\[$\u{e9}]{0,12}"#) {
            let text = format!("[g]\nk = {}\n", quoted(&value));
            let entries = parse(Path::new("x.conf"), text.as_bytes()).unwrap();
            prop_assert_eq!(&entries[0].value, &value.replace('$', "$$"));
        }
    }
}
