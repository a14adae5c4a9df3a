//! Text as it stands between the quotes of a JSON string, and back. Most bytes of a body look the same on both sides, and are
//! copied many at a time.

use std::io;

/// So many bytes are looked at and copied together in long runs; the compiler makes a few instructions of it.
const STEP: usize = 32;
/// So many bytes tell at once where the first is that does not stand for itself.
const WORD: usize = size_of::<u64>();
/// Room beyond a text, for what is escaped in it and for what follows it.
const SLACK: usize = 256;

/// Whether a byte of text stands for itself in a JSON string.
const fn is_plain(byte: u8) -> bool {
    byte >= b' ' && byte != b'"' && byte != b'\\'
}

/// Marks the bytes of a word that do not stand for themselves with their highest bit. The lowest mark is right, and without one
/// there is none; above it, what a subtraction has borrowed may leave marks, too.
const fn special(word: u64) -> u64 {
    const EACH: u64 = u64::MAX / 255;
    const fn below(word: u64, least: u8) -> u64 {
        word.wrapping_sub(EACH * least as u64) & !word
    }
    let quote = below(word ^ (EACH * b'"' as u64), 1);
    let backslash = below(word ^ (EACH * b'\\' as u64), 1);
    (below(word, b' ') | quote | backslash) & (EACH << 7)
}

/// Appends the bytes before the first that does not stand for itself to `out`; what follows them.
#[inline]
fn copy_plain<'a>(mut text: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    while let Some((word, rest)) = text.split_first_chunk::<WORD>() {
        let special = special(u64::from_le_bytes(*word));
        // As a whole, which costs less than as many as there are.
        out.extend_from_slice(word);
        if special != 0 {
            let plain = special.trailing_zeros() as usize / 8;
            out.truncate(out.len() - (WORD - plain));
            return &text[plain..];
        }
        text = rest;
        while let Some((step, rest)) = text.split_first_chunk::<STEP>()
            && step.iter().fold(true, |all, byte| all & is_plain(*byte))
        {
            out.extend_from_slice(step);
            text = rest;
        }
    }
    let plain = text.iter().position(|byte| !is_plain(*byte)).unwrap_or(text.len());
    out.extend(&text[..plain]);
    &text[plain..]
}

/// How many bytes there are before the first that does not stand for itself.
fn plain_run(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(step) = text[at..].first_chunk::<STEP>()
        && step.iter().fold(true, |all, byte| all & is_plain(*byte))
    {
        at += STEP;
    }
    at + text[at..].iter().position(|byte| !is_plain(*byte)).unwrap_or(text.len() - at)
}

/// The letter of the short escape of a byte that does not stand for itself; the others are written as [`number`].
const fn letter(byte: u8) -> Option<u8> {
    match byte {
        b'"' | b'\\' => Some(byte),
        b'\n' => Some(b'n'),
        b'\r' => Some(b'r'),
        b'\t' => Some(b't'),
        0x08 => Some(b'b'),
        0x0c => Some(b'f'),
        _ => None,
    }
}

fn number(byte: u8) -> [u8; 6] {
    let digit = |value: u8| b"0123456789abcdef"[usize::from(value & 0xf)];
    [b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte)]
}

/// Makes room for a text of so many bytes, and for what usually comes with it: a large text that has to move once more for the
/// few bytes that follow it costs more than all the rest.
pub(crate) fn make_room(out: &mut Vec<u8>, text: usize) {
    if out.capacity() - out.len() < text + WORD {
        out.reserve(text + text / 16 + SLACK);
    }
}

/// Appends `text` to `out`, escaped as `serde_json` does it.
pub(super) fn escape(mut text: &[u8], out: &mut Vec<u8>) {
    make_room(out, text.len());
    while let [byte, rest @ ..] = copy_plain(text, out) {
        match letter(*byte) {
            Some(letter) => out.extend_from_slice(&[b'\\', letter]),
            None => out.extend_from_slice(&number(*byte)),
        }
        text = rest;
    }
}

/// Writes `text`, escaped as `serde_json` does it.
pub(crate) fn write_escaped(mut text: &[u8], writer: &mut (impl io::Write + ?Sized)) -> io::Result<()> {
    loop {
        let (plain, rest) = text.split_at(plain_run(text));
        writer.write_all(plain)?;
        let [byte, rest @ ..] = rest else { return Ok(()) };
        match letter(*byte) {
            Some(letter) => writer.write_all(&[b'\\', letter])?,
            None => writer.write_all(&number(*byte))?,
        }
        text = rest;
    }
}

/// The text that stands escaped between two quotes. `None` where it is none, and where it is written in an unusual way, for
/// others to decide.
pub(super) fn unescape(mut escaped: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(escaped.len() + WORD);
    loop {
        let (byte, rest) = match copy_plain(escaped, &mut out) {
            [] => return String::from_utf8(out).ok(),
            [b'\\', byte, rest @ ..] => (*byte, rest),
            _ => return None,
        };
        out.push(match byte {
            b'"' | b'\\' | b'/' => byte,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 0x08,
            b'f' => 0x0c,
            _ => return None,
        });
        escaped = rest;
    }
}
