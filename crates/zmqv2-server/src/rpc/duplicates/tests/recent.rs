use super::*;
use std::time::Duration;

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "an arbitrary instant to count from")]
    Instant::now()
}

fn id(n: u128) -> MessageId {
    MessageId::from_bytes(n.to_be_bytes())
}

#[test]
fn a_request_runs_once_within_its_time_and_its_answer_is_kept_rg20() {
    let (now, end) = (start(), start() + Duration::from_secs(5));
    let mut recent = RecentIds::default();
    assert_eq!(recent.record(id(1), end, now), Seen::New);
    assert_eq!(recent.record(id(1), end, now), Seen::Running);
    recent.store(id(1), "done", 4, now);
    assert_eq!(recent.record(id(1), end, now), Seen::Answered("done"));
    // It waited in a socket and has time left.
    assert_eq!(recent.record(id(1), end + GRACE, end), Seen::Answered("done"));
    // Its time is over: the next id removes it.
    assert_eq!(recent.record(id(2), end, end + GRACE), Seen::New);
    assert_eq!((recent.answers.len(), recent.bytes), (0, 0));
}

#[test]
fn ids_and_bytes_are_bounded() {
    let (now, end) = (start(), start() + Duration::from_secs(5));
    let mut recent = RecentIds { bounds: Bounds { ids: 10, bytes: 100 }, ..RecentIds::default() };
    for n in 0..1_000 {
        assert_eq!(recent.record(id(n), end, now), Seen::New);
        recent.store(id(n), (), 30, now);
        assert!(recent.answers.len() <= 10 && recent.bytes <= 100);
        assert_eq!(recent.order.len(), recent.answers.len());
    }
    assert_eq!(recent.record(id(999), end, now), Seen::Answered(()));
    // An answer whose id is forgotten is dropped.
    recent.store(id(0), (), 30, now);
    assert!(recent.bytes <= 100);
}
