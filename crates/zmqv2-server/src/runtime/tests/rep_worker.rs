use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn collected(size: u16, timeout: Duration) -> Collected<u8> {
    Collected::new(Batch { size, timeout })
}

#[test]
fn a_single_request_runs_at_once() {
    assert!(Collected::new(Batch::ONE).add(1, now()));
}

#[test]
fn a_batch_runs_when_it_is_full_or_when_its_first_request_has_waited_long_enough() {
    let (start, mut collected) = (now(), collected(2, SECOND));
    assert_eq!(collected.idle(|| start), Idle::WaitForStop);
    assert!(!collected.add(1, start));
    assert_eq!(collected.idle(|| start + SECOND / 4), Idle::WaitForDrain(Some(SECOND * 3 / 4)));
    assert_eq!(collected.idle(|| start + SECOND), Idle::Run);
    assert!(collected.add(2, start + SECOND / 2));
    assert_eq!(collected.take(), [1, 2]);
    assert!(!collected.add(3, start + SECOND));
    assert_eq!(collected.idle(|| start + SECOND), Idle::WaitForDrain(Some(SECOND)));
}

#[test]
fn a_batch_without_a_timeout_waits_until_it_is_full_or_the_server_drains() {
    let mut collected = collected(2, Duration::MAX);
    collected.add(1, now());
    assert_eq!(collected.idle(now), Idle::WaitForDrain(None));
}
