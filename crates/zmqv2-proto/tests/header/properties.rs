//! Readers of headers, bodies and bundles accept or refuse any bytes, and never panic.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::value::RawValue;
use zmqv2_proto::{FIXED_BYTES, Flags, Kind, MessageId, Reason, Target, Ttl, rewrite_hop};

use super::*;

fn name() -> impl Strategy<Value = String> {
    "[!-.0-\\[\\]-~]{1,12}".prop_filter("no directory", |name| !matches!(name.as_str(), "." | ".."))
}

fn any_header() -> impl Strategy<Value = Header> {
    let kinds = [
        Kind::Call,
        Kind::Cast,
        Kind::Fanout,
        Kind::Notify,
        Kind::Inquire,
        Kind::Reply,
        Kind::Ack,
        Kind::Refusal,
        Kind::Stored,
        Kind::InFlight,
        Kind::Register,
        Kind::Registered,
        Kind::Withdraw,
        Kind::Withdrawn,
        Kind::Credit,
        Kind::Status,
        Kind::StatusReport,
        Kind::Handled,
    ];
    let names = (proptest::option::of((name(), name())), proptest::option::of(name()), proptest::option::of(name()));
    let reason = proptest::option::of(select(&Reason::ALL[..]));
    let numbers = (any::<u16>(), any::<u64>(), any::<[u8; 16]>(), any::<u32>(), any::<u64>(), any::<bool>());
    (select(kinds.to_vec()), reason, numbers, names).prop_map(|(kind, reason, numbers, (key, server, node))| {
        let (credit, tag, id, ttl, delivered, failure) = numbers;
        let mut header = Header::new(kind, MessageId::from_bytes(id));
        header.flags = if failure { Flags::FAILURE } else { Flags::NONE };
        (header.reason, header.count, header.tag, header.ttl) = (reason, credit, tag, Ttl::from_millis(ttl));
        header.delivered = delivered;
        header.key = key.map(|(e, t)| Target::topic(t).unwrap().with_exchange(e).unwrap().key());
        header.server = server.map(|name| name.parse().unwrap());
        header.node = node.map(|name| name.parse().unwrap());
        header
    })
}

/// Bytes that get past the first checks: a header with some bytes changed.
fn nearly_a_header() -> impl Strategy<Value = Vec<u8>> {
    (any_header(), vec((any::<Index>(), any::<u8>()), 0..4), any::<Option<Index>>()).prop_map(
        |(header, changes, cut)| {
            let mut frame = header.encode();
            for (at, value) in changes {
                let at = at.index(frame.len());
                frame[at] = value;
            }
            frame.truncate(cut.map_or(frame.len(), |cut| cut.index(frame.len())));
            frame
        },
    )
}

/// Bytes that may be JSON, and may be the envelope of something.
fn nearly_a_body() -> impl Strategy<Value = Vec<u8>> {
    let words =
        ["{", "}", "[", "]", ":", ",", "\"method\"", "\"args\"", "\"result\"", "\"failure\"", "\"{\"", "null", "1"];
    let json = vec(select(words.to_vec()), 0..12).prop_map(|words| words.concat());
    let text = prop_oneof![json, ".*"];
    prop_oneof![
        vec(any::<u8>(), 0..200),
        text.clone().prop_map(String::into_bytes),
        text.prop_map(|text| zmqv2_proto::envelope::seal(&text)),
    ]
}

proptest! {
    #[test]
    fn a_header_comes_back_as_it_went(header in any_header()) {
        prop_assert_eq!(read(&header.encode()), Some(header));
    }

    #[test]
    fn no_bytes_make_the_header_readers_panic(noise in vec(any::<u8>(), 0..300), nearly in nearly_a_header()) {
        prop_assert!(read(&noise).is_none_or(|header| header.encode() == noise));
        read(&nearly);
    }

    #[test]
    fn no_bytes_make_the_body_readers_panic(body in nearly_a_body()) {
        let _ = Request::decode(&body).map(|request| request.encode().unwrap());
        if let Ok(Ok(result)) = Reply::decode::<Box<RawValue>>(&body) {
            Reply::Result(result).encode().unwrap();
        }
    }

    #[test]
    fn a_hop_changes_the_tag_and_the_times_and_nothing_else(header in any_header(), tag: u64, ttl: u32, at: u64) {
        let mut frame = header.encode();
        rewrite_hop(&mut frame, tag, Ttl::from_millis(ttl));
        let mut expected = header;
        (expected.tag, expected.ttl, expected.delivered) = (tag, Ttl::from_millis(ttl), 0);
        prop_assert_eq!(Header::decode(&frame), Ok(expected.clone()));
        Header::stamp_delivered(&mut frame, at);
        expected.delivered = at;
        prop_assert_eq!(Header::decode(&frame), Ok(expected));
    }

    #[test]
    fn a_hop_leaves_alone_what_is_too_short(noise in vec(any::<u8>(), 0..80), tag: u64, ttl: u32) {
        let mut frame = noise.clone();
        rewrite_hop(&mut frame, tag, Ttl::from_millis(ttl));
        Header::stamp_delivered(&mut frame, tag);
        prop_assert_eq!(frame.len(), noise.len());
        prop_assert!(frame == noise || noise.len() >= FIXED_BYTES);
    }

    /// Whatever the bytes, reading ends, and gives out nothing but parts of them, in order.
    #[test]
    fn any_bytes_are_read_as_a_bundle_without_panic(tail in vec(any::<u8>(), 0..2_000)) {
        let frame = [&[0x5a, 0x32, 1, 41][..], &tail].concat();
        let mut read = 0;
        for message in Bundled::of(&frame).unwrap() {
            match message {
                Ok((header, body)) => read += 6 + header.len() + body.len(),
                Err(_) => break,
            }
        }
        prop_assert!(read <= tail.len());
    }
}
