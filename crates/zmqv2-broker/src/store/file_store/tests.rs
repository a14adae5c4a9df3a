use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

#[cfg(feature = "proptest")]
use proptest::collection::vec;
#[cfg(feature = "proptest")]
use proptest::prelude::*;
use redb::TableDefinition;

use super::super::record::{DeadRecord, Record};
use super::super::{MAX_DEAD_LETTER_BYTES, MAX_DEAD_LETTERS};
use super::*;

mod disk;
use disk::Disk;

fn record(number: u64, bytes: usize) -> Record {
    let body = (0..bytes).map(|at| (number as usize + at) as u8).collect();
    Record { number, header: number.to_be_bytes().to_vec(), body, expires_ms: number * 1_000 }
}

fn to_dead_letters(number: u64) -> Change {
    Change::MoveToDeadLetters { number, why: format!("{number} failed"), deliveries: number + 5, at_ms: number + 7 }
}

fn numbers(contents: &Contents) -> (Vec<u64>, Vec<u64>) {
    let dead = contents.dead.iter().map(|dead| dead.record.number).collect();
    (contents.live.iter().map(|record| record.number).collect(), dead)
}

/// A store in a new directory, which is removed with the first value.
fn fresh() -> (tempfile::TempDir, PathBuf, FileStore) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kept.db");
    let store = FileStore::open(&path).unwrap();
    (dir, path, store)
}

#[test]
fn commits_are_there_in_order_after_a_restart() {
    let (_dir, path, mut store) = fresh();
    assert_eq!(store.load().unwrap(), Contents::default());
    store.commit(&[5, 300, 2, 70_000].map(|number| Change::Put(record(number, 10)))).unwrap();
    store.commit(&[Change::Erase(300), to_dead_letters(5), Change::Erase(17), to_dead_letters(18)]).unwrap();
    drop(store);
    let contents = FileStore::open(&path).unwrap().load().unwrap();
    assert_eq!(contents.live, [record(2, 10), record(70_000, 10)]);
    let dead = DeadRecord { record: record(5, 10), why: "5 failed".to_owned(), deliveries: 10, at_ms: 12 };
    assert_eq!(contents.dead, [dead]);
}

#[test]
fn one_commit_may_put_and_erase_and_give_up_the_same_records() {
    let (_dir, _path, mut store) = fresh();
    let changes =
        [Change::Put(record(1, 1)), Change::Put(record(2, 1)), Change::Erase(1), to_dead_letters(2), Change::Erase(2)];
    store.commit(&changes).unwrap();
    assert_eq!(numbers(&store.load().unwrap()), (vec![], vec![2]));
}

#[test]
fn dead_letters_are_bounded_in_number_and_in_bytes_even_after_a_restart() {
    let (_dir, path, mut store) = fresh();
    let letters = |from: u64, to: u64, bytes| -> Vec<_> {
        (from..to).flat_map(|number| [Change::Put(record(number, bytes)), to_dead_letters(number)]).collect()
    };
    let most = MAX_DEAD_LETTERS as u64;
    // DeadRecord from the highest number down: the order of burial counts.
    let mut changes: Vec<_> = (0..=most).map(|number| Change::Put(record(number, 1))).collect();
    changes.extend((0..=most).rev().map(to_dead_letters));
    store.commit(&changes).unwrap();
    assert_eq!(numbers(&store.load().unwrap()).1, (0..most).rev().collect::<Vec<_>>());
    drop(store);
    let mut store = FileStore::open(&path).unwrap();
    let quarter = MAX_DEAD_LETTER_BYTES / 4;
    store.commit(&letters(5_000, 5_004, quarter)).unwrap();
    let (_, dead) = numbers(&store.load().unwrap());
    assert_eq!(dead, [5_001, 5_002, 5_003]);
    store.commit(&letters(6_000, 6_001, MAX_DEAD_LETTER_BYTES + 1)).unwrap();
    assert_eq!(numbers(&store.load().unwrap()).1, [6_000]);
}

#[test]
fn a_new_file_is_readable_by_its_owner_only_and_no_other_file_stays() {
    let (dir, path, store) = fresh();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    drop(store);
    // A file that an operator has made keeps its permissions.
    let made = dir.path().join("made.db");
    fs::write(&made, "").unwrap();
    fs::set_permissions(&made, fs::Permissions::from_mode(0o640)).unwrap();
    let mut store = FileStore::open(&made).unwrap();
    store.commit(&[Change::Put(record(1, 1))]).unwrap();
    assert_eq!(numbers(&store.load().unwrap()).0, [1]);
    assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn the_file_shrinks_again() {
    let (_dir, path, mut store) = fresh();
    let size = || fs::metadata(&path).unwrap().len();
    let all: Vec<_> = (0..400).map(|number| Change::Put(record(number, 50_000))).collect();
    for group in all.chunks(50) {
        store.commit(group).unwrap();
    }
    let full = size();
    assert!(full > 20_000_000);
    let erased: Vec<_> = (0..400).map(Change::Erase).collect();
    store.commit(&erased).unwrap();
    for number in 400..410 {
        store.commit(&[Change::Put(record(number, 10))]).unwrap();
    }
    assert!(size() < full / 10, "{} of {full} bytes", size());
}

#[test]
fn a_second_broker_learns_that_the_file_is_in_use() {
    let (_dir, path, store) = fresh();
    let error = FileStore::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("rpc_zmq_notification_store of its own"), "{error}");
    drop(store);
    FileStore::open(&path).unwrap();
}

#[test]
fn an_impossible_path_is_named_with_its_option() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing/kept.db");
    for error in [FileStore::check(&missing).unwrap_err(), FileStore::open(&missing).unwrap_err()] {
        assert!(matches!(error, StoreError::NoDirectory { .. }), "{error}");
        assert!(error.to_string().starts_with("rpc_zmq_notification_store = /"), "{error}");
    }
    let error = FileStore::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("not a regular file"), "{error}");
}

#[test]
fn other_files_are_refused_and_stay_unchanged() {
    const OTHER: TableDefinition<'_, u64, u64> = TableDefinition::new("other");
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text");
    fs::write(&text, "no store, but the only copy of my novel".repeat(1_000)).unwrap();
    let other = dir.path().join("other");
    let database = Database::create(&other).unwrap();
    let writing = database.begin_write().unwrap();
    writing.open_table(OTHER).unwrap().insert(1, 1).unwrap();
    writing.commit().unwrap();
    drop(database);
    for path in [text, other] {
        let before = fs::read(&path).unwrap();
        let error = FileStore::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("move it away"), "{error}");
        if path.ends_with("text") {
            assert_eq!(fs::read(&path).unwrap(), before);
        }
    }
}

#[test]
fn a_newer_format_is_refused() {
    const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    let (_dir, path, store) = fresh();
    drop(store);
    let database = Database::create(&path).unwrap();
    let writing = database.begin_write().unwrap();
    writing.open_table(META).unwrap().insert("format", tables::FORMAT + 1).unwrap();
    writing.commit().unwrap();
    drop(database);
    let error = FileStore::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Format { found: 2, known: 1, .. }), "{error}");
}

/// Whichever byte is wrong, and wherever the file ends: either all records are read, or the file is
/// reported as damaged.
#[test]
fn a_damaged_file_is_an_error_or_harmless() {
    let (dir, path, mut store) = fresh();
    for number in 0..20 {
        store.commit(&[Change::Put(record(number, 3_000)), to_dead_letters(number / 3)]).unwrap();
    }
    let expected = store.load().unwrap();
    drop(store);
    let good = fs::read(&path).unwrap();
    let bad = dir.path().join("bad.db");
    let (mut refused, mut harmless) = (0, 0);
    // The whole head, and samples of the rest.
    let places = (0..600).step_by(7).chain((600..good.len()).step_by(good.len() / 150));
    for place in places {
        let mut flipped = good.clone();
        flipped[place] ^= 0x41;
        for bytes in [&flipped[..], &good[..place]] {
            fs::write(&bad, bytes).unwrap();
            match FileStore::open(&bad).and_then(|mut store| store.load()) {
                Ok(contents) if bytes.is_empty() => assert_eq!(contents, Contents::default()),
                Ok(contents) => {
                    assert_eq!(contents, expected, "place {place}");
                    harmless += 1;
                }
                Err(StoreError::Damaged { .. }) => refused += 1,
                Err(other) => panic!("place {place}: {other}"),
            }
        }
    }
    assert!(refused > 50 && harmless > 0, "{refused} refused, {harmless} harmless");
}

fn on(disk: &Disk) -> Result<FileStore, StoreError> {
    let disk = disk.clone();
    let path = Path::new("/disk");
    FileStore::over(
        path,
        Box::new(move || builder().create_with_backend(disk.clone()).map_err(|error| translate(path, error.into()))),
    )
}

#[test]
fn after_a_full_disk_it_goes_on_when_there_is_room_again() {
    let disk = Disk::new(Vec::new(), 1);
    let mut store = on(&disk).unwrap();
    store.commit(&[Change::Put(record(1, 100))]).unwrap();
    disk.fill(true);
    for _ in 0..2 {
        let error = store.commit(&[Change::Put(record(2, 100_000))]).unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
    }
    disk.fill(false);
    store.commit(&[Change::Erase(2), Change::Put(record(3, 100_000))]).unwrap();
    drop(store);
    assert_eq!(numbers(&on(&disk).unwrap().load().unwrap()).0, [1, 3]);
}

/// The contents that a store must have, in a simple model.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    live: BTreeMap<u64, Record>,
    dead: Vec<u64>,
}

impl Model {
    fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Put(record) => drop(self.live.insert(record.number, record.clone())),
                Change::Erase(number) => drop(self.live.remove(number)),
                Change::MoveToDeadLetters { number, .. } => self.dead.extend(self.live.remove(number).map(|_| *number)),
            }
        }
    }

    fn is(&self, contents: &Contents) -> bool {
        self.live.values().eq(contents.live.iter()) && self.dead == numbers(contents).1
    }
}

#[cfg(feature = "proptest")]
fn change() -> impl Strategy<Value = Change> {
    let number = 0..12_u64;
    prop_oneof![
        3 => (number.clone(), 0..20_000_usize).prop_map(|(number, bytes)| Change::Put(record(number, bytes))),
        2 => number.clone().prop_map(Change::Erase),
        1 => number.prop_map(to_dead_letters),
    ]
}

/// Cuts the power during and after every commit. Returns what the store has lost or invented.
fn cut_everywhere(disk: &Disk, commits: &[Vec<Change>]) -> Result<(), String> {
    let left = |bytes: Vec<u8>| on(&Disk::new(bytes, 3)).and_then(|mut store| store.load());
    let mut store = on(disk).map_err(|error| error.to_string())?;
    let mut model = Model::default();
    disk.cuts();
    for changes in commits {
        let before = model.clone();
        model.apply(changes);
        store.commit(changes).map_err(|error| error.to_string())?;
        let after = left(disk.cut()).map_err(|error| format!("after a commit: {error}"))?;
        if !model.is(&after) {
            return Err(format!("after a commit: {after:?}, not {model:?}"));
        }
        for bytes in disk.cuts() {
            let contents = left(bytes).map_err(|error| format!("during a commit: {error}"))?;
            if !before.is(&contents) && !model.is(&contents) {
                return Err(format!("during a commit: {contents:?}, neither {before:?} nor {model:?}"));
            }
        }
    }
    Ok(())
}

#[cfg(feature = "proptest")]
proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_power_cut_leaves_whole_commits_and_every_finished_one(
        commits in vec(vec(change(), 0..8), 1..10),
        random in any::<u64>(),
    ) {
        prop_assert_eq!(cut_everywhere(&Disk::new(Vec::new(), random), &commits), Ok(()));
    }
}

#[test]
fn the_check_detects_a_disk_that_is_not_synced() {
    let disk = Disk::new(Vec::new(), 5);
    drop(on(&disk).unwrap());
    disk.lie();
    let commits: Vec<_> = (0..8).map(|number| vec![Change::Put(record(number, 5_000))]).collect();
    assert!(cut_everywhere(&disk, &commits).is_err());
}
