//! Escapes and unescapes the text of JSON strings. Most bytes need no escape and are copied many at
//! a time.

use std::io;

/// The number of bytes that are checked and copied together, in a few instructions.
const STEP: usize = 32;
/// The number of bytes that are searched together for the first one that needs an escape.
const WORD: usize = size_of::<u64>();
/// Capacity beyond the text, for its escapes and for the bytes that follow.
const SLACK: usize = 256;

/// Whether a byte of text needs no escape in a JSON string.
const fn is_plain(byte: u8) -> bool {
    byte >= b' ' && byte != b'"' && byte != b'\\'
}

/// Sets the highest bit of each byte of a word that needs an escape. Only the lowest set bit is
/// certain: a borrow in the subtraction may set bits above it. No bit is set if no byte needs an
/// escape.
const fn special(word: u64) -> u64 {
    const EACH: u64 = u64::MAX / 255;
    const fn below(word: u64, least: u8) -> u64 {
        word.wrapping_sub(EACH * least as u64) & !word
    }
    let quote = below(word ^ (EACH * b'"' as u64), 1);
    let backslash = below(word ^ (EACH * b'\\' as u64), 1);
    (below(word, b' ') | quote | backslash) & (EACH << 7)
}

/// Appends the bytes before the first that needs an escape to `out`, and returns the rest.
#[inline]
fn copy_plain<'a>(mut text: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    while let Some((word, rest)) = text.split_first_chunk::<WORD>() {
        let special = special(u64::from_le_bytes(*word));
        // Copying a whole word costs less than copying a part of it.
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

/// The number of bytes before the first that needs an escape.
fn plain_run(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(step) = text[at..].first_chunk::<STEP>()
        && step.iter().fold(true, |all, byte| all & is_plain(*byte))
    {
        at += STEP;
    }
    at + text[at..].iter().position(|byte| !is_plain(*byte)).unwrap_or(text.len() - at)
}

/// The letter of the short escape of a byte. A byte without one is written as [`number`].
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

/// Reserves capacity for a text and for the bytes that usually follow it. Without room for those, a
/// large text would be moved once more.
pub(crate) fn reserve_for(out: &mut Vec<u8>, text: usize) {
    if out.capacity() - out.len() < text + WORD {
        out.reserve(text + text / 16 + SLACK);
    }
}

/// Appends `text` to `out`, escaped as `serde_json` does it.
pub(super) fn escape(mut text: &[u8], out: &mut Vec<u8>) {
    reserve_for(out, text.len());
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

/// Removes the escapes of a JSON string. `None` for invalid text and for unusual escapes.
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
