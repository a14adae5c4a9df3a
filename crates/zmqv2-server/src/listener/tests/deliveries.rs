use super::*;
use std::time::Duration;

const ID: MessageId = MessageId::from_bytes([7; 16]);

fn times() -> (Instant, Instant) {
    #[expect(clippy::disallowed_methods, reason = "an arbitrary instant to count from")]
    let now = Instant::now();
    (now, now + Duration::from_secs(5))
}

#[test]
fn a_handled_notification_is_known_until_its_time_is_over() {
    let (mut deliveries, (now, end)) = (Deliveries::default(), times());
    assert_eq!(deliveries.take(ID, 1), Known::New);
    assert_eq!(deliveries.settle(ID, Verdict::Handled, end, now), None);
    assert_eq!(deliveries.take(ID, 2), Known::Handled);
    let other = MessageId::from_bytes([8; 16]);
    deliveries.take(other, 3);
    deliveries.settle(other, Verdict::Handled, end, end + Duration::from_secs(60));
    assert_eq!(deliveries.take(ID, 4), Known::New);
}

#[test]
fn a_delivery_that_comes_while_the_notification_runs_ends_with_it() {
    let (mut deliveries, (now, end)) = (Deliveries::default(), times());
    assert_eq!(deliveries.take(ID, 1), Known::New);
    assert_eq!(deliveries.take(ID, 2), Known::Running(None));
    assert_eq!(deliveries.take(ID, 3), Known::Running(Some(2)));
    assert_eq!(deliveries.settle(ID, Verdict::Handled, end, now), Some(3));
    assert!(deliveries.running.is_empty());
}

#[test]
fn a_requeued_notification_is_forgotten() {
    let (mut deliveries, (now, end)) = (Deliveries::default(), times());
    assert_eq!(deliveries.take(ID, 1), Known::New);
    assert_eq!(deliveries.settle(ID, Verdict::Requeue, end, now), None);
    assert_eq!(deliveries.take(ID, 2), Known::New);
}
