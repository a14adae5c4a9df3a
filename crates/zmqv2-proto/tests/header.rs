//! The header on the wire: the vectors in `vectors/`, from which somebody can write a client in
//! another language, are what this side reads and writes; and no bytes at all make a reader panic.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::de::IgnoredAny;
use zmqv2_proto::bundle::{Bundle, Bundled};
use zmqv2_proto::control::{Registered, ServerRegistration, StatusReport, Withdrawal};
use zmqv2_proto::hello::{HELLO_ID, Hello, Welcome};
use zmqv2_proto::{
    ClockId, Flags, Header, HeaderView, Kind, MAX_HEADER_BYTES, MessageId, Notification, Reply, Request,
};

#[cfg(feature = "proptest")]
#[path = "header/properties.rs"]
mod properties;

/// One file: the header's bytes, and what its comments say of them.
struct Vector {
    name: String,
    bytes: Vec<u8>,
    fields: BTreeMap<String, String>,
}

impl Vector {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let (mut bytes, mut fields) = (Vec::new(), BTreeMap::new());
        for line in text.lines() {
            let (hex, comment) = line.split_once('#').unwrap_or((line, ""));
            for byte in hex.split_whitespace() {
                bytes.push(u8::from_str_radix(byte, 16).unwrap_or_else(|_| panic!("{}: {line}", path.display())));
            }
            let Some((field, value)) = comment.split_once(':') else {
                continue;
            };
            // Beside bytes every comment is a field; of the others only the body's is.
            if !hex.trim().is_empty() || field.trim() == "body" {
                fields.insert(field.trim().to_owned(), value.trim().to_owned());
            }
        }
        Self { name: path.file_stem().unwrap().to_string_lossy().into_owned(), bytes, fields }
    }

    fn all() -> Vec<Self> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
        let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        // Bundles have a folder of their own.
        paths.retain(|path| path.is_file());
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }
}

/// A decoded header in the words of the vectors.
fn fields_of(header: &Header) -> BTreeMap<String, String> {
    let text = |name: Option<&str>| name.unwrap_or_default().to_owned();
    let key = text(header.key.as_ref().map(zmqv2_proto::TopicKey::as_str));
    let server = text(header.server.as_ref().map(zmqv2_proto::ServerName::as_str));
    let node = text(header.node.as_ref().map(zmqv2_proto::NodeName::as_str));
    let bits = [
        (Flags::FAILURE, 1, "FAILURE"),
        (Flags::MAY_REPEAT, 2, "MAY_REPEAT"),
        (Flags::WAIT_FOR_READY, 4, "WAIT_FOR_READY"),
        (Flags::REQUEUE, 8, "REQUEUE"),
        (Flags::MONITORED, 16, "MONITORED"),
    ];
    let set: Vec<_> = bits.into_iter().filter(|(flag, ..)| header.flags.contains(*flag)).collect();
    let names: Vec<_> = set.iter().map(|(_, _, name)| *name).collect();
    let names = if names.is_empty() { "NONE".to_owned() } else { names.join(", ") };
    let flags = format!("{} ({names})", set.iter().map(|(_, bit, _)| bit).sum::<i32>());
    let code = header.reason.map_or("0 (none)".to_owned(), |reason| format!("{} ({reason})", reason.code()));
    let mut fields = BTreeMap::from([
        ("magic", "Z2".to_owned()),
        ("version", "1".to_owned()),
        ("kind", format!("{} ({:?})", header.kind as u8, header.kind)),
        ("flags", flags),
        ("code", code),
        ("count", header.count.to_string()),
        ("tag", header.tag.to_string()),
        ("id", header.id.to_string()),
        ("ttl", header.ttl.as_millis().to_string()),
        ("delivered", header.delivered.to_string()),
        ("key length", key.len().to_string()),
        ("server length", server.len().to_string()),
        ("node length", node.len().to_string()),
    ]);
    let names = [("key", key), ("server", server), ("node", node)];
    fields.extend(names.into_iter().filter(|(_, name)| !name.is_empty()));
    fields.into_iter().map(|(field, value)| (field.to_owned(), value)).collect()
}

#[test]
fn every_vector_decodes_to_its_stated_fields_and_encodes_to_its_bytes() {
    let vectors = Vector::all();
    for Vector { name, bytes, mut fields } in vectors {
        let header = Header::decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        fields.remove("body");
        assert_eq!(fields_of(&header), fields, "{name}");
        assert_eq!(header.encode(), bytes, "{name}");
    }
}

#[test]
fn there_is_a_vector_of_every_kind() {
    let stated: BTreeSet<u8> = Vector::all().iter().map(|vector| vector.bytes[3]).collect();
    let mut frame = Header::new(Kind::Call, MessageId::from_bytes([0; 16])).encode();
    let mut known = |kind: &u8| {
        frame[3] = *kind;
        Header::decode(&frame).is_ok()
    };
    assert_eq!(stated, (0..=255).filter(|kind| known(kind)).collect());
}

#[test]
fn every_vectors_body_is_read_as_its_kind_says() {
    for Vector { name, bytes, fields } in Vector::all() {
        let body = fields["body"].as_bytes();
        let header = Header::decode(&bytes).unwrap();
        match header.kind {
            Kind::Call | Kind::Cast | Kind::Fanout => {
                assert_eq!(Request::decode(body).unwrap().method.as_str(), "add", "{name}");
            }
            Kind::Notify => assert_eq!(Notification::decode(body).unwrap().event_type, "instance.created", "{name}"),
            Kind::Handled if header.flags.contains(Flags::REQUEUE) => drop(Notification::decode(body).unwrap()),
            Kind::Reply => {
                let failed = Reply::decode::<IgnoredAny>(body).unwrap().is_err();
                assert_eq!(failed, header.flags.contains(Flags::FAILURE), "{name}");
            }
            Kind::Register => assert_eq!(serde_json::from_slice::<ServerRegistration>(body).unwrap().workers, 4),
            Kind::Registered => assert_eq!(serde_json::from_slice::<Registered>(body).unwrap().node.as_str(), "node-7"),
            Kind::Withdraw | Kind::Withdrawn => drop(serde_json::from_slice::<Withdrawal>(body).unwrap()),
            Kind::StatusReport => {
                assert_eq!(serde_json::from_slice::<StatusReport>(body).unwrap().pid, 1);
            }
            Kind::Inquire if header.id == HELLO_ID => {
                assert_eq!(Hello::read(body).max_message_bytes, Some(16 << 20));
            }
            Kind::Welcome => {
                let welcome = Welcome::read(body).unwrap();
                assert_eq!((welcome.clock, welcome.max_message_bytes, welcome.cancels), (4711, Some(16 << 20), false));
            }
            Kind::Status
            | Kind::Ack
            | Kind::Credit
            | Kind::Stored
            | Kind::InFlight
            | Kind::Inquire
            | Kind::Handled
            | Kind::Cancel => {
                assert!(body.is_empty(), "{name}");
            }
            _ => assert!(header.reason.is_some() && !body.is_empty(), "{name}"),
        }
    }
}

/// The two readers of a header agree on what they both read.
fn read(frame: &[u8]) -> Option<Header> {
    let header = Header::decode(frame).ok();
    let view = HeaderView::new(frame).ok();
    if let Some(header) = &header {
        let view = view.unwrap();
        assert_eq!((view.kind(), view.flags(), view.count()), (header.kind, header.flags, header.count));
        assert_eq!((view.tag(), view.id(), view.ttl()), (header.tag, header.id, header.ttl));
        assert_eq!(view.delivered(), header.delivered);
        assert_eq!(view.reason().unwrap(), header.reason);
        assert_eq!(header.encode(), frame, "what decodes has one form only");
        assert!(frame.len() <= MAX_HEADER_BYTES);
    } else if let Some(view) = view {
        // Read in place, it may hold names that are none; touching them is all that a broker does.
        let _ = (view.key(), view.server(), view.node(), view.reason().is_ok());
    }
    header
}

#[test]
fn no_part_of_a_vector_is_a_header() {
    for Vector { name, bytes, .. } in Vector::all() {
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).is_none(), "{name}, {end} bytes");
        }
        assert!(read(&[&bytes[..], &[0]].concat()).is_none(), "{name}, one byte more");
    }
}

#[test]
fn every_changed_byte_of_a_vector_is_another_header_or_an_error() {
    for Vector { name, mut bytes, .. } in Vector::all() {
        let original = read(&bytes);
        for at in 0..bytes.len() {
            let was = bytes[at];
            for value in (0..=255).filter(|value| *value != was) {
                bytes[at] = value;
                let other = read(&bytes);
                assert!(other != original, "{name}, byte {at} = {value}");
            }
            bytes[at] = was;
        }
    }
}

#[test]
fn the_vector_of_a_bundle_is_what_this_side_reads_and_writes() {
    let bundle =
        Vector::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/bundle/two-answers.hex")).bytes;
    let messages: Vec<_> = Bundled::of(&bundle).unwrap().map(Result::unwrap).collect();
    let vectors = Vector::all();
    let header = |name: &str| &vectors.iter().find(|vector| vector.name == name).unwrap().bytes[..];
    assert_eq!(messages[0], (header("ack"), &b""[..]));
    assert_eq!(messages[1].0, header("reply"));
    assert_eq!(Reply::decode::<u8>(messages[1].1).unwrap().unwrap(), 7);
    let mut again = Bundle::new();
    messages.iter().for_each(|(header, body)| {
        again.push(header, body);
    });
    assert_eq!((messages.len(), again.frame()), (2, &bundle[..]));
}

#[test]
fn the_time_since_a_stamp_counts_and_another_clock_leaves_none() {
    let own = ClockId::from_wire(4711).unwrap();
    let stamped = Vector::all().into_iter().find(|vector| vector.name == "call-stamped").unwrap().bytes;
    let left = |own, now| HeaderView::new(&stamped).unwrap().ttl_left(own, now).as_millis();
    assert_eq!([0, 1, 4_999, 5_000].map(|age| left(own, 123_456_900 + age)), [5_000, 4_999, 1, 0]);
    // The client estimates this clock, and a broker must not fail for a millisecond.
    assert_eq!(left(own, 123_456_899), 5_000);
    assert_eq!(left(ClockId::from_wire(4712).unwrap(), 123_456_900), 0, "the host was restarted");
    let mut unstamped = stamped.clone();
    Header::stamp_count(&mut unstamped, 0);
    assert_eq!(HeaderView::new(&unstamped).unwrap().ttl_left(own, u64::MAX).as_millis(), 5_000);
    Header::stamp_sent(&mut unstamped, own, 123_456_900);
    assert_eq!(unstamped, stamped);
}
