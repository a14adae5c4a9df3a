//! Text as it stands between the quotes of a JSON string, and back. A body holds most of its bytes in long runs that look the
//! same on both sides, so these are found many bytes at a time and copied as they are.

/// So many bytes are looked at together: two of the registers that every 64-bit processor has.
const STEP: usize = 32;
/// What an escaped byte takes at most beyond itself, and the end of an envelope: room for it saves a larger buffer.
const SLACK: usize = 64;

/// Whether a byte of text stands for itself in a JSON string.
const fn is_plain(byte: u8) -> bool {
    byte >= b' ' && byte != b'"' && byte != b'\\'
}

/// How many bytes at the start stand for themselves.
fn plain(bytes: &[u8]) -> usize {
    // No way out of the inner loop, so that the compiler takes it in a few instructions.
    let all_plain = |step: &[u8; STEP]| step.iter().fold(true, |all, byte| all & is_plain(*byte));
    let (steps, _) = bytes.as_chunks::<STEP>();
    let known = steps.iter().position(|step| !all_plain(step)).unwrap_or(steps.len()) * STEP;
    let rest = &bytes[known..];
    known + rest.iter().position(|byte| !is_plain(*byte)).unwrap_or(rest.len())
}

/// Appends `text` to `out`, escaped as `serde_json` does it.
pub(super) fn escape(mut text: &[u8], out: &mut Vec<u8>) {
    if out.capacity() - out.len() < text.len() + SLACK {
        out.reserve(text.len() + SLACK);
    }
    loop {
        let (run, rest) = text.split_at(plain(text));
        out.extend_from_slice(run);
        let Some((byte, rest)) = rest.split_first() else { return };
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            control => {
                let digit = |value: u8| b"0123456789abcdef"[usize::from(value & 0xf)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(control >> 4), digit(*control)]);
            }
        }
        text = rest;
    }
}

/// The text that stands escaped between two quotes. `None` where it is none, and where it is written in an unusual way, for
/// others to decide.
pub(super) fn unescape(mut escaped: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(escaped.len());
    loop {
        let (run, rest) = escaped.split_at(plain(escaped));
        out.extend_from_slice(run);
        let (byte, rest) = match rest {
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
