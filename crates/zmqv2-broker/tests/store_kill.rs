//! Kills a process that writes to a store as fast as it can. Every record that it reported as kept
//! must be there.
//!
//! This shows that nothing is reported before the operating system has it, and that a half-done
//! commit does not count. It cannot show that the disk has it, because the system's cache survives
//! the kill. A unit test of `store::FileStore` cuts the power of a simulated disk for that.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use zmqv2_broker::store::{Change, CommitThread, Contents, FileStore, Record, Store};

const STORE: &str = "ZMQV2_TEST_STORE";
const FIRST: &str = "ZMQV2_TEST_FIRST";
const ROUNDS: usize = 12;
/// The number of records that wait for their outcome at the same time.
const WINDOW: u64 = 64;

fn record(number: u64) -> Record {
    // From nothing to several pages.
    let body = vec![number as u8; (number * 7_919 % 20_000) as usize];
    Record { number, header: number.to_be_bytes().to_vec(), body, expires_ms: number + 1 }
}

/// Of ten records one becomes a dead letter and five are erased, as soon as they are kept.
fn fate(number: u64) -> Option<Change> {
    match number % 10 {
        0 => Some(Change::MoveToDeadLetters { number, why: "tenth".to_owned(), deliveries: number, at_ms: number }),
        1..6 => Some(Change::Erase(number)),
        _ => None,
    }
}

/// Not a test but the process that is killed. It prints `kept <number>` when a record is on the
/// disk, and `left <number>` when its erasure or its move to the dead letters is.
#[test]
fn writer() {
    let Some(path) = std::env::var_os(STORE) else { return };
    let mut next: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let (wake, woken) = crossbeam_channel::unbounded();
    let store = FileStore::open(Path::new(&path)).unwrap();
    let commits = CommitThread::start(Box::new(store), Box::new(move || wake.send(()).unwrap_or_default())).unwrap();
    let mut out = std::io::stdout().lock();
    let mut kept = next;
    // Numbers whose fates were submitted before a record was put, with the number of that record.
    // The outcome of the record confirms the fates.
    let mut ordered: Vec<(u64, u64)> = Vec::new();
    loop {
        while next < kept + WINDOW {
            commits.submit(Change::Put(record(next)));
            next += 1;
        }
        woken.recv().unwrap();
        while let Some(outcome) = commits.outcome() {
            outcome.result.unwrap();
            for number in outcome.numbers {
                let mut lines = format!("kept {number}\n");
                ordered.retain(|(left, confirmed_by)| {
                    let waits = *confirmed_by > number;
                    if !waits {
                        lines.push_str(&format!("left {left}\n"));
                    }
                    waits
                });
                // One write of less than a pipe's 4 KiB is all there or not at all.
                out.write_all(lines.as_bytes()).unwrap();
                out.flush().unwrap();
                kept = number + 1;
                if let Some(change) = fate(number) {
                    commits.submit(change);
                    ordered.push((number, next));
                }
            }
        }
    }
}

fn spawn(path: &Path, first: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer", "--nocapture"])
        .env(STORE, path)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The reports of the killed processes in all rounds.
#[derive(Default)]
struct Reported {
    kept: Vec<u64>,
    left: Vec<u64>,
}

impl Reported {
    fn read(&mut self, line: &str) {
        match line.split_once(' ') {
            Some(("kept", number)) => self.kept.push(number.parse().unwrap()),
            Some(("left", number)) => self.left.push(number.parse().unwrap()),
            // A line of the test harness.
            _ => {}
        }
    }

    /// Compares the contents of a store with the reports.
    fn check(&self, contents: &Contents) -> Result<(), String> {
        let live: Vec<u64> = contents.live.iter().map(|record| record.number).collect();
        let dead: Vec<u64> = contents.dead.iter().map(|dead| dead.record.number).collect();
        if !live.is_sorted() || !dead.is_sorted() {
            return Err("out of order".to_owned());
        }
        if contents.live.iter().any(|found| *found != record(found.number)) {
            return Err("a record is not what was put".to_owned());
        }
        for number in &self.kept {
            let there = live.binary_search(number).is_ok();
            let is_dead = dead.binary_search(number).is_ok();
            match (fate(*number), self.left.contains(number)) {
                (None, _) if !there => return Err(format!("{number} was kept, and is lost")),
                (Some(_), true) if there => return Err(format!("{number} has left, and is back")),
                // The oldest dead letters may be gone.
                (Some(Change::MoveToDeadLetters { .. }), _)
                    if !there && !is_dead && dead.first().is_some_and(|first| first < number) =>
                {
                    return Err(format!("{number} was a dead letter, and is lost"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[test]
fn every_record_reported_as_kept_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kept.db");
    let mut reported = Reported::default();
    let mut first = 0;
    for round in 0..ROUNDS {
        let mut child = spawn(&path, first);
        let lines = BufReader::new(child.stdout.take().unwrap()).split(b'\n');
        // Each round kills at another moment; the first perhaps before there is a store.
        let enough = round * round * 13;
        let mut killed = false;
        for (count, line) in lines.map(Result::unwrap).enumerate() {
            if count >= enough && !killed {
                // SIGKILL.
                child.kill().unwrap();
                killed = true;
            }
            reported.read(&String::from_utf8(line).unwrap());
        }
        assert!(killed, "round {round}: the writer ended by itself: {:?}", child.wait());
        child.wait().unwrap();
        let contents = FileStore::open(&path).unwrap().load().unwrap();
        if let Err(wrong) = reported.check(&contents) {
            panic!("round {round}: {wrong}");
        }
        first = contents.next_number().max(first);
    }
    assert!(
        reported.kept.len() > 1_000 && reported.left.len() > 500,
        "{} kept, {} left",
        reported.kept.len(),
        reported.left.len()
    );
}

#[test]
fn the_check_detects_lost_and_returned_records() {
    let reported = Reported { kept: vec![6, 7, 11], left: vec![11] };
    let holding =
        |numbers: &[u64]| Contents { live: numbers.iter().copied().map(record).collect(), ..Contents::default() };
    assert_eq!(reported.check(&holding(&[6, 7])), Ok(()));
    assert!(reported.check(&holding(&[6])).unwrap_err().contains("7 was kept"));
    assert!(reported.check(&holding(&[6, 7, 11])).unwrap_err().contains("11 has left"));
    assert!(reported.check(&holding(&[7, 6])).unwrap_err().contains("order"));
    let mut other = holding(&[6, 7]);
    other.live[0].body.push(1);
    assert!(reported.check(&other).unwrap_err().contains("not what was put"));
}

/// Not a test but a measurement: `cargo test --release -p zmqv2-broker --test store_kill --
/// --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn measure() {
    let now = std::time::Instant::now;
    let dir = tempfile::tempdir_in(std::env::var_os("ZMQV2_TEST_DIR").unwrap_or("/var/tmp".into())).unwrap();
    let path = dir.path().join("kept.db");
    let mut store = FileStore::open(&path).unwrap();
    let put = |number| Change::Put(Record { number, header: vec![1; 80], body: vec![2; 1024], expires_ms: 0 });
    for group in [1, 10, 100, 1_000] {
        let mut times: Vec<Duration> = (0..200)
            .map(|round| {
                let changes: Vec<_> = (0..group).map(|at| put(round * group + at)).collect();
                let start = now();
                store.commit(&changes).unwrap();
                let took = start.elapsed();
                store.commit(&(0..group).map(|at| Change::Erase(round * group + at)).collect::<Vec<_>>()).unwrap();
                took
            })
            .collect();
        times.sort_unstable();
        println!("commit of {group} x 1 KiB: p50 {:?}, p99 {:?}", times[100], times[198]);
    }
    let (wake, woken) = crossbeam_channel::unbounded();
    let commits = CommitThread::start(Box::new(store), Box::new(move || wake.send(()).unwrap_or_default())).unwrap();
    for window in [1, 16, 256, 4_096] {
        let start = now();
        let (mut sent, mut done, total) = (0_u64, 0_u64, (window * 400).min(40_000));
        while done < total {
            while sent < total && sent < done + window {
                commits.submit(put(sent));
                sent += 1;
            }
            woken.recv().unwrap();
            while let Some(outcome) = commits.outcome() {
                outcome.result.unwrap();
                done += outcome.numbers.len() as u64;
                outcome.numbers.into_iter().for_each(|number| commits.submit(Change::Erase(number)));
            }
        }
        let rate = total as f64 / start.elapsed().as_secs_f64();
        println!("commits, {window} outstanding, put and erase: {rate:.0} per s");
    }
    let start = now();
    drop(commits);
    println!("drop: {:?}", start.elapsed());
    let mut store = FileStore::open(&path).unwrap();
    for chunk in 0..100 {
        let changes: Vec<_> = (0..1_000).map(|at| put(chunk * 1_000 + at)).collect();
        store.commit(&changes).unwrap();
    }
    println!("100,000 x 1 KiB: file of {} bytes", std::fs::metadata(&path).unwrap().len());
    // As after a crash: never closed.
    let copy = dir.path().join("copy.db");
    std::fs::copy(&path, &copy).unwrap();
    std::fs::File::open(&copy).unwrap().sync_all().unwrap();
    drop(store);
    for (what, path) in [("a crash", &copy), ("a close", &path)] {
        let start = now();
        let mut store = FileStore::open(path).unwrap();
        let opened = start.elapsed();
        let loaded = store.load().unwrap().live.len();
        println!("after {what}: opened in {opened:?}, {loaded} loaded after {:?}", start.elapsed());
    }
}
