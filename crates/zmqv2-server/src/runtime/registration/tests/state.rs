use super::*;
use crate::runtime::now;

const SECOND: Duration = Duration::from_secs(1);

fn id(number: u8) -> MessageId {
    MessageId::from_bytes([number; 16])
}

/// A server whose broker is there and has accepted the REGISTER with id 1.
fn registered(now: Instant) -> RegistrationState {
    let mut state = RegistrationState::new(now, id(0));
    assert!(!state.connection(now, true));
    assert_eq!(state.next(now, 0), Step::Register);
    state.registering(now, id(1));
    assert_eq!(state.received(now, Kind::Registered, id(1)), Some(Change::Registered));
    state
}

#[test]
fn without_a_connection_nothing_is_sent() {
    let now = now();
    let state = RegistrationState::new(now, id(0));
    assert_eq!(state.next(now + 60 * SECOND, 0), Step::Wait(None));
}

#[test]
fn a_registration_without_an_answer_is_repeated_after_a_second() {
    let now = now();
    let mut state = RegistrationState::new(now, id(0));
    state.connection(now, true);
    state.registering(now, id(1));
    assert_eq!(state.next(now, 0), Step::Wait(Some(RETRY)));
    assert_eq!(state.next(now + RETRY, 0), Step::Register);
    assert!(!state.ready && !state.takes_requeued());
}

#[test]
fn an_accepted_registration_is_repeated_as_a_sign_of_life() {
    let now = now();
    let mut state = registered(now);
    assert!(state.ready && state.takes_requeued());
    // The next one is sent a second after the first, which had no answer when it was sent.
    assert_eq!(state.next(now + RETRY, 0), Step::Register);
    state.registering(now + RETRY, id(2));
    assert_eq!(state.received(now + RETRY, Kind::Registered, id(2)), None);
    assert_eq!(state.next(now + RETRY, 0), Step::Wait(Some(SIGN_INTERVAL)));
    assert_eq!(state.next(now + RETRY + REPEAT, 0), Step::Register);
}

#[test]
fn a_server_gives_signs_of_life_until_its_last_request_has_ended() {
    let now = now();
    let mut state = registered(now);
    assert_eq!(state.next(now + SIGN_INTERVAL, 0), Step::GiveSign);
    state.gave_sign(now + SIGN_INTERVAL);
    assert_eq!(state.next(now + SIGN_INTERVAL, 0), Step::Wait(Some(SIGN_INTERVAL)));
    state.withdrawing(id(3), now + 60 * SECOND);
    assert_eq!(state.next(now + 2 * SIGN_INTERVAL, 1), Step::GiveSign);
    state.gave_sign(now + 2 * SIGN_INTERVAL);
    assert_eq!(state.next(now + 2 * SIGN_INTERVAL, 1), Step::Wait(Some(SIGN_INTERVAL)));
    // Without a broker there is nobody to tell.
    state.connection(now + 2 * SIGN_INTERVAL, false);
    assert_eq!(state.next(now + 3 * SIGN_INTERVAL, 1), Step::Wait(Some(60 * SECOND - 3 * SIGN_INTERVAL)));
}

#[test]
fn a_refused_registration_is_repeated_and_the_server_is_not_ready() {
    let now = now();
    let mut state = registered(now);
    state.registering(now, id(2));
    assert_eq!(state.received(now, Kind::Refusal, id(2)), Some(Change::RegistrationRefused));
    assert_eq!((state.ready, state.next(now, 0)), (false, Step::Wait(Some(SIGN_INTERVAL))));
}

#[test]
fn a_refused_message_does_not_end_the_registration() {
    let now = now();
    let mut state = registered(now);
    assert_eq!(state.received(now, Kind::Refusal, id(9)), Some(Change::MessageRefused));
    assert!(state.ready);
}

#[test]
fn a_new_broker_gets_the_registration_at_once() {
    let now = now();
    let mut state = registered(now);
    assert!(state.connection(now, false));
    assert!(!state.ready && !state.takes_requeued());
    assert_eq!(state.next(now, 0), Step::Wait(None));
    assert!(!state.connection(now, true));
    assert_eq!(state.next(now, 0), Step::Register);
}

#[test]
fn a_server_leaves_when_the_broker_released_it_and_nothing_is_outstanding() {
    let now = now();
    let mut state = registered(now);
    state.withdrawing(id(2), now + SECOND);
    assert_eq!(state.next(now, 0), Step::Wait(Some(SIGN_INTERVAL)), "the broker may still send requests");
    assert_eq!(state.received(now, Kind::Withdrawn, id(2)), None);
    assert_eq!(state.next(now, 1), Step::Wait(Some(SIGN_INTERVAL)), "a request runs");
    assert_eq!(state.next(now, 0), Step::Leave);
}

#[test]
fn a_server_that_withdraws_waits_for_no_broker_that_is_gone() {
    let now = now();
    let mut state = registered(now);
    state.withdrawing(id(2), now + SECOND);
    state.connection(now, false);
    assert_eq!((state.next(now, 1), state.next(now, 0)), (Step::Wait(Some(SECOND)), Step::Leave));
}

#[test]
fn a_server_gives_up_when_the_time_to_drain_is_over() {
    let now = now();
    let mut state = registered(now);
    state.withdrawing(id(2), now + SECOND);
    state.received(now, Kind::Withdrawn, id(2));
    assert_eq!(state.next(now + SECOND, 1), Step::GiveUp);
    assert_eq!(state.next(now + SECOND, 0), Step::Leave);
}
