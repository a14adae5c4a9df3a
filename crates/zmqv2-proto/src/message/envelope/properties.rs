//! Sealing and opening an envelope gives the same result as `serde_json`, for any text and any
//! bytes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Text with much to escape, in runs of any length.
pub(crate) fn text() -> impl Strategy<Value = String> {
    let run = prop_oneof![
        4 => "[a-z ]{0,80}",
        4 => prop::sample::select(vec!["\"", "\\", "\\\\", "\n", "\r", "\t", "\u{8}", "\u{c}", "\0", "\u{1f}", "/", "\u{7f}"])
            .prop_map(str::to_owned),
        1 => prop::sample::select(vec!["é", "\u{2028}", "😀", "\\u00e9", "\\\""]).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    vec(run, 0..24).prop_map(|runs| runs.concat())
}

/// A valid envelope, perhaps in an unusual form, or a damaged one.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let head = prop_oneof![
        6 => Just(HEAD.to_vec()),
        6 => Just(SPACED_HEAD.to_vec()),
        1 => Just(br#"{"oslo.version":"2.1","oslo.message":""#.to_vec()),
        1 => Just(br#" {"oslo.version":"2.0","oslo.message":""#.to_vec()),
        1 => Just(br#"{"oslo.message":"m","oslo.version":""#.to_vec()),
    ];
    let part = prop_oneof![
        6 => text().prop_map(String::into_bytes),
        6 => text().prop_map(|text| seal(&text)[HEAD.len()..].strip_suffix(TAIL).expect("an end").to_vec()),
        1 => prop::sample::select(vec!["\\u00e9", "\\ud83d\\ude00", "\\ud83d", "\\u12", "\\x", "\\", "\"", "\\/", "\\\"", "\n"])
            .prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..4),
    ];
    let tail = prop_oneof![8 => Just(&b"\"}"[..]), 1 => Just(&b"\"} "[..]), 1 => Just(&b"\",\"more\":1}"[..]), 1 => Just(&b"}"[..])];
    (head, vec(part, 0..3), tail).prop_map(|(head, parts, tail)| [head, parts.concat(), tail.to_vec()].concat())
}

fn shown(result: Result<Cow<'_, str>, BodyError>) -> Result<String, String> {
    result.map(Cow::into_owned).map_err(|error| format!("{error:?}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn sealing_writes_what_serde_json_writes(text in text(), cut in any::<prop::sample::Index>()) {
        let envelope = Envelope { version: Some(ENVELOPE_VERSION.into()), message: Some(text.as_str().into()) };
        let written = serde_json::to_string(&envelope).expect("two strings");
        prop_assert_eq!(String::from_utf8(seal(&text)).expect("text"), &written[..]);
        // In two pieces, cut anywhere.
        let cut = text.char_indices().map(|(at, _)| at).nth(cut.index(text.chars().count().max(1))).unwrap_or(0);
        let mut envelope = EnvelopeWriter::new(0);
        envelope.push(&text[..cut]);
        io::Write::write_all(&mut envelope, &text.as_bytes()[cut..]).expect("memory");
        prop_assert_eq!(String::from_utf8(envelope.finish()).expect("text"), written);
        prop_assert_eq!(open_fast(&seal(&text)), text.chars().all(|c| c >= ' ' || "\n\r\t\u{8}\u{c}".contains(c)).then_some(text));
    }

    #[test]
    fn opening_accepts_and_refuses_what_serde_json_does(body in body()) {
        prop_assert_eq!(shown(open(&body)), shown(open_with_serde(&body)));
    }

    #[test]
    fn a_changed_envelope_is_opened_as_serde_json_opens_it(
        text in text(),
        spaced in any::<bool>(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..4),
    ) {
        let mut body = seal(&text);
        if spaced {
            body.splice(..HEAD.len(), SPACED_HEAD.iter().copied());
        }
        for (at, byte, how) in changes {
            let at = at.index(body.len());
            match how {
                0 => body[at] = byte,
                1 => body.insert(at, byte),
                _ => drop(body.remove(at)),
            }
        }
        prop_assert_eq!(shown(open(&body)), shown(open_with_serde(&body)));
    }
}
