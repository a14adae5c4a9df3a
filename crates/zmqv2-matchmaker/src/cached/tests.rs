//! The thread that follows a directory, and what it survives.

use std::sync::atomic::AtomicUsize;

use super::*;
use crate::cached::remote::{DirectoryList, Renewals, Revision, TopicState};

/// A directory that answers, fails, or panics.
#[derive(Debug, Default)]
struct Moody {
    mood: Mutex<Mood>,
    looks: AtomicUsize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Mood {
    #[default]
    Good,
    Failing,
    Panicking,
}

#[derive(Debug, Clone, Default)]
struct Shared(Arc<Moody>);

impl Shared {
    fn set(&self, mood: Mood) {
        *self.0.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }

    fn look(&self) -> Result<(), MatchmakerError> {
        self.0.looks.fetch_add(1, Ordering::Relaxed);
        let mood = *self.0.mood.lock().unwrap_or_else(PoisonError::into_inner);
        assert_ne!(mood, Mood::Panicking, "as it was told to");
        if mood == Mood::Good { Ok(()) } else { Err(unavailable()) }
    }
}

fn unavailable() -> MatchmakerError {
    MatchmakerError::Unavailable { directory: "moody".to_owned(), source: "failing".into() }
}

impl RemoteDirectory for Shared {
    fn name(&self) -> &'static str {
        "moody"
    }
    fn location(&self) -> String {
        "moody".to_owned()
    }
    fn read(&self, queries: &[TopicQuery]) -> Result<DirectoryAnswer, MatchmakerError> {
        self.look()?;
        let states =
            queries.iter().map(|_| Some(TopicState { revision: Revision(1, 0), ..TopicState::default() })).collect();
        let (epoch, instance) = Default::default();
        let renewals = Renewals::Unknown;
        Ok(DirectoryAnswer { epoch, instance, clock: Duration::ZERO, age: Duration::MAX, renewals, states })
    }
    fn register(&self, _: &[Registration], _: Duration) -> Result<(), MatchmakerError> {
        self.look()
    }
    fn withdraw(&self, _: &[Registration]) -> Result<(), MatchmakerError> {
        self.look()
    }
    fn list(&self) -> Result<DirectoryList, MatchmakerError> {
        Ok(DirectoryList::default())
    }
    fn watcher(&self) -> Box<dyn ChangeWatcher> {
        Box::new(self.clone())
    }
}

impl ChangeWatcher for Shared {
    fn wait(&mut self, _: &[TopicQuery], timeout: Duration) -> Result<bool, MatchmakerError> {
        self.look()?;
        pause(timeout);
        Ok(false)
    }
    fn read(&mut self, queries: &[TopicQuery]) -> Result<DirectoryAnswer, MatchmakerError> {
        RemoteDirectory::read(self, queries)
    }
}

#[expect(clippy::disallowed_methods, reason = "a stand-in for a directory that is waited for in real time")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn remembering(refresh: Duration) -> (Shared, CachedMatchmaker) {
    let minute = Duration::from_secs(60);
    let settings = CacheSettings { refresh, max_stale: minute, lease: minute, renew_every: minute / 2 };
    let directory = Shared::default();
    let cached = CachedMatchmaker::new(Box::new(directory.clone()), settings);
    cached.resolve_all(&TopicKey::parse("x/t").unwrap()).unwrap();
    (directory, cached)
}

fn eventually(what: &str, mut met: impl FnMut() -> bool) {
    let by = now() + Duration::from_secs(30);
    while !met() {
        assert!(now() < by, "not in time: {what}");
        pause(Duration::from_millis(5));
    }
}

#[test]
fn a_panic_in_the_thread_makes_health_stale_and_the_thread_goes_on() {
    let (directory, cached) = remembering(Duration::from_millis(100));
    assert_eq!(cached.health(), Health::Ok);
    directory.set(Mood::Panicking);
    eventually(
        "the health tells",
        || matches!(cached.health(), Health::Stale { reason, .. } if reason.contains("its thread panicked")),
    );
    directory.set(Mood::Good);
    eventually("it is followed again", || !matches!(cached.health(), Health::Stale { .. }));
}

#[test]
fn with_a_refresh_interval_of_zero_the_thread_does_not_spin() {
    let (directory, cached) = remembering(Duration::from_millis(1));
    for mood in [Mood::Good, Mood::Failing] {
        directory.set(mood);
        eventually("it is noticed", || (cached.health() == Health::Ok) == (mood == Mood::Good));
        let before = directory.0.looks.load(Ordering::Relaxed);
        // How often it looks shows in a time.
        pause(Duration::from_secs(2));
        let looks = directory.0.looks.load(Ordering::Relaxed) - before;
        // Every 80 ms a wait and a look, or, after failures, a look every 50 ms and then ever more
        // rarely.
        assert!((2..60).contains(&looks), "{looks} looks in 2 s, {mood:?}");
    }
}
