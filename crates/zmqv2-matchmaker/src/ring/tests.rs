//! The ring file under edits, good and bad.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use tempfile::TempDir;
use zmqv2_proto::Target;

use super::*;
use crate::conformance::{self, Capabilities, Fixture};

/// A ring file that always says where the placed registrations are.
struct RingFixture {
    dir: TempDir,
    ring: Arc<RingMatchmaker>,
    placed: Vec<Registration>,
    broken: bool,
}

impl RingFixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ring = open(dir.path(), "{}", Duration::ZERO);
        Self { dir, ring: Arc::new(ring), placed: Vec::new(), broken: false }
    }

    fn write(&self) {
        if self.broken {
            return write(self.dir.path(), "{\"half a ring");
        }
        let mut ring = serde_json::Map::new();
        for Registration { key, server, node } in &self.placed {
            let list = ring.entry(key.as_str()).or_insert_with(|| serde_json::json!([])).as_array_mut().unwrap();
            match list.iter_mut().find(|placed| placed["node"] == node.name.as_str()) {
                Some(placed) => placed["servers"].as_array_mut().unwrap().push(server.as_str().into()),
                None => list.push(serde_json::json!({"node": node.name, "address": node.address, "servers": [server]})),
            }
        }
        write(self.dir.path(), &serde_json::Value::Object(ring).to_string());
    }
}

impl Fixture for RingFixture {
    fn matchmaker(&self) -> Arc<dyn Matchmaker> {
        Arc::clone(&self.ring) as _
    }

    fn place(&mut self, registration: &Registration) {
        self.placed.retain(|placed| !conformance::same_place(placed, registration));
        self.placed.push(registration.clone());
        self.write();
    }

    fn displace(&mut self, registration: &Registration) {
        self.placed.retain(|placed| !conformance::same_place(placed, registration));
        self.write();
    }

    fn interrupt(&mut self, down: bool) {
        self.broken = down;
        self.write();
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { read_only: true, interruptible: true, ..Capabilities::default() }
    }
}

#[test]
fn it_conforms() {
    conformance::run(&mut RingFixture::new());
}

fn write(dir: &Path, text: &str) {
    let half = dir.join("ring.new");
    fs::write(&half, text).unwrap();
    fs::rename(half, dir.join("ring.json")).unwrap();
}

fn open(dir: &Path, text: &str, interval: Duration) -> RingMatchmaker {
    write(dir, text);
    RingMatchmaker::open(dir.join("ring.json"), 9501).unwrap().with_check_interval(interval)
}

fn nodes(ring: &RingMatchmaker, topic: &str) -> Vec<String> {
    let all = ring.resolve_all(&Target::topic(topic).unwrap().key()).unwrap().candidates(None);
    all.iter().map(|node| node.name.to_string()).collect()
}

/// Collects the warnings of each test's own thread.
struct Warnings;

thread_local! {
    static SEEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

impl log::Log for Warnings {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        if record.level() <= log::Level::Warn {
            SEEN.with_borrow_mut(|seen| seen.push(record.args().to_string()));
        }
    }
    fn flush(&self) {}
}

fn warnings() -> Vec<String> {
    // Another test of this process may have been first.
    let _ = log::set_logger(&Warnings);
    log::set_max_level(log::LevelFilter::Trace);
    SEEN.take()
}

#[test]
fn an_edit_is_found_while_answering_rg18() {
    let dir = tempfile::tempdir().unwrap();
    let ring = open(dir.path(), r#"{"t": ["h1"]}"#, Duration::ZERO);
    assert_eq!(nodes(&ring, "t"), ["h1"]);
    // The same length, in place, at once: only the content tells.
    fs::write(dir.path().join("ring.json"), r#"{"t": ["h2"]}"#).unwrap();
    assert_eq!(nodes(&ring, "t"), ["h2"]);
    assert_eq!(ring.generation(), 1);
}

#[test]
fn the_file_is_not_read_per_message_rg10() {
    let dir = tempfile::tempdir().unwrap();
    let ring = open(dir.path(), r#"{"t": ["h1"]}"#, Duration::from_secs(3600));
    write(dir.path(), r#"{"t": ["h1", "h2"]}"#);
    assert_eq!(nodes(&ring, "t"), ["h1"]);
    assert_eq!(ring.refresh().unwrap(), Refreshed::Changed);
    assert_eq!(nodes(&ring, "t"), ["h1", "h2"]);
}

#[test]
fn a_settled_file_is_read_only_when_its_stamp_differs() {
    let dir = tempfile::tempdir().unwrap();
    let ring = open(dir.path(), r#"{"t": ["h1"]}"#, Duration::ZERO);
    ring.watch.lock().unwrap().settled = true;
    let before = ring.look(&TopicKey::parse("x/t").unwrap());
    assert!(Arc::ptr_eq(&before, &ring.resolve_all(&TopicKey::parse("x/t").unwrap()).unwrap()));
    assert!(ring.watch.lock().unwrap().settled);
    write(dir.path(), r#"{"t": ["h1", "h2"]}"#);
    assert_eq!(nodes(&ring, "t"), ["h1", "h2"]);
    assert!(!ring.watch.lock().unwrap().settled);
}

#[test]
fn an_edit_of_another_topic_keeps_the_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let ring = open(dir.path(), r#"{"t": ["h1"], "u": ["h1"]}"#, Duration::ZERO);
    let key = TopicKey::parse("x/t").unwrap();
    let before = ring.resolve_all(&key).unwrap();
    write(dir.path(), r#"{"t": ["h1"], "u": ["h2"]}"#);
    assert_eq!(ring.refresh().unwrap(), Refreshed::Changed);
    assert!(Arc::ptr_eq(&before, &ring.resolve_all(&key).unwrap()));
}

#[test]
fn a_broken_edit_keeps_the_last_good_ring_and_warns_once_per_change() {
    let dir = tempfile::tempdir().unwrap();
    let _ = warnings();
    let ring = open(dir.path(), r#"{"t": ["h1"]}"#, Duration::ZERO);
    for broken in ["{", r#"{"../x": ["h2"]}"#, r#"{"t": ["h2", "h2"]}"#] {
        write(dir.path(), broken);
        assert_eq!([nodes(&ring, "t"), nodes(&ring, "t")], [["h1"], ["h1"]]);
        assert!(matches!(ring.refresh(), Err(MatchmakerError::BadRing { line: 1, .. })));
        let told = warnings();
        assert!(told.len() == 1 && told[0].contains("ring.json, line 1, column"), "{told:?}");
        assert!(matches!(ring.health(), Health::Stale { reason, .. } if told[0].starts_with(&reason)));
    }
    let [there, nobody] = ["x/t", "x/nobody"].map(|key| TopicKey::parse(key).unwrap());
    assert!(!ring.resolve_all(&there).unwrap().completeness().is_complete());
    assert!(ring.known(&nobody).is_none(), "the broken file may have it");
    assert!(matches!(ring.resolve_all(&nobody), Err(MatchmakerError::Refilling { .. })));
    fs::remove_file(dir.path().join("ring.json")).unwrap();
    assert_eq!([nodes(&ring, "t"), nodes(&ring, "t")], [["h1"], ["h1"]]);
    assert!(matches!(ring.refresh(), Err(MatchmakerError::UnreadableRing { .. })));
    assert_eq!(warnings().len(), 1);
    let sparse = fs::File::create(dir.path().join("ring.json")).unwrap();
    sparse.set_len(file::MAX_RING_BYTES + 1).unwrap();
    assert!(matches!(ring.refresh(), Err(MatchmakerError::RingTooLarge { bytes: 67_108_865, .. })));
    assert_eq!(warnings().len(), 1);

    write(dir.path(), r#"{"t": ["h2"]}"#);
    assert_eq!(nodes(&ring, "t"), ["h2"]);
    assert_eq!((ring.health(), warnings().len()), (Health::Ok, 0));
    assert!(ring.resolve_all(&there).unwrap().completeness().is_complete());
    assert!(ring.resolve_all(&nobody).unwrap().is_empty());
}

#[test]
fn opening_a_bad_ring_names_file_line_and_problem() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ring.json");
    let error = |path: &Path| RingMatchmaker::open(path, 9501).unwrap_err().to_string();
    assert!(error(&path).contains("ring.json: No such file"), "{}", error(&path));
    assert!(error(dir.path()).contains("not a regular file"), "{}", error(dir.path()));
    fs::write(&path, "{\"t\":\n [\"h 1\"]}").unwrap();
    let shown = error(&path);
    assert!(shown.contains("ring.json, line 2, column 7: invalid address \"h 1\""), "{shown}");
    assert!(!shown.contains(" at line"), "{shown}");
}

#[test]
fn a_server_that_clients_cannot_find_is_reported_once() {
    let dir = tempfile::tempdir().unwrap();
    let _ = warnings();
    let text = r#"{"t": ["n1", {"node": "n2", "address": "h2", "servers": ["s2"]}]}"#;
    let ring = open(dir.path(), text, Duration::ZERO);
    let registration = |topic: &str, server: &str, node: &str, address: &str| Registration {
        key: Target::topic(topic).unwrap().key(),
        server: server.parse().unwrap(),
        node: zmqv2_proto::Node::new(node.parse().unwrap(), address.parse().unwrap()),
    };
    let lease = Duration::from_secs(600);
    for (found, topic, server, node, address) in [
        (true, "t", "s1", "n1", "n1"),
        (true, "t", "s1", "other-name", "n1:9501"),
        (true, "t", "s2", "n2", "h2"),
        (false, "t", "s9", "n2", "h2"),
        (false, "t", "s2", "n1", "n1"),
        (false, "t", "s1", "n1", "n1:9502"),
        (false, "t", "s1", "n9", "n9"),
        (false, "u", "s1", "n1", "n1"),
    ] {
        let registration = registration(topic, server, node, address);
        ring.register(&registration, lease).unwrap();
        ring.renew(&registration, lease).unwrap();
        let told = warnings();
        assert_eq!(told.len(), usize::from(!found), "{registration}: {told:?}");
    }
}
