//! For any history of two clocks, an estimate never makes a request younger than it is, and makes it
//! older by no more than a round trip.

use proptest::collection::vec;
use proptest::prelude::*;

use super::clock::PeerClock;

/// Two clocks, and the ways between them. Times are microseconds of the client.
#[derive(Debug, Clone)]
struct History {
    /// The broker's clock when the client's is 0.
    offset: u64,
    /// By how much the broker's clock is faster, in parts per million.
    drift: i64,
    /// When each exchange begins after the one before, how long the question travels, and the
    /// answer.
    exchanges: Vec<(u64, u64, u64)>,
}

/// Whole milliseconds, as both sides read them.
fn millis(micros: u64) -> u64 {
    micros / 1_000
}

impl History {
    fn broker(&self, client: u64) -> u64 {
        let drift = i128::from(client) * i128::from(self.drift) / 1_000_000;
        u64::try_from(i128::from(self.offset + client) + drift).unwrap()
    }
}

fn history() -> impl Strategy<Value = History> {
    let way = prop_oneof![0..2_000_u64, 0..300_000_u64, 0..5_000_000_u64];
    let gap = prop_oneof![0..50_000_u64, 0..30_000_000_u64];
    let exchanges = vec((gap, way.clone(), way), 1..40);
    (1_000_000..10_000_000_000_u64, -150..=150_i64, exchanges).prop_map(|(offset, drift, exchanges)| History {
        offset,
        drift,
        exchanges,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn an_estimate_is_never_late_and_never_earlier_than_a_round_trip(history in history()) {
        let mut now = 1_000_000_u64;
        let mut clock = None;
        for (gap, there, back) in &history.exchanges {
            now += gap;
            let sent = now;
            let stamped = history.broker(sent + there);
            now += there + back;
            match &mut clock {
                None => {
                    let asked = PeerClock::asked(false, millis(sent), millis(now), millis(stamped));
                    clock = Some((asked, there + back, now));
                }
                Some((clock, round_trip, _)) => {
                    clock.answered(millis(now), millis(stamped));
                    *round_trip = (*round_trip).min(there + back);
                }
            }
            let Some((known, round_trip, asked_at)) = clock else { continue };
            if known.at(millis(now)).is_none() {
                prop_assert!(now - asked_at > 119_000_000, "an estimate was given up for no reason");
                // The broker is asked again.
                clock = None;
                continue;
            }
            // No answer for a while, then a request.
            for pause in [0, 1_000_000, 60_000_000] {
                let at = now + pause;
                let Some(estimate) = known.at(millis(at)) else { continue };
                let truth = millis(history.broker(at));
                // Whole milliseconds of two clocks and of the drift.
                prop_assert!(estimate <= truth + 2, "the broker takes it for {} ms younger", estimate - truth);
                // 120 s without an answer, and each clock may be off by this much.
                let moved = 60 + i64::try_from(pause / 5_000_000).unwrap();
                let early = i64::try_from(truth).unwrap() - i64::try_from(estimate).unwrap();
                let most = i64::try_from(millis(round_trip)).unwrap() + 3 + moved;
                prop_assert!(early <= most, "it is {early} ms too early, the round trip was {round_trip} us");
            }
        }
    }

    #[test]
    fn another_broker_or_a_clock_that_jumps_forward_is_noticed(
        offset in 1_000..1_000_000_000_u64,
        way in 0..1_000_u64,
        jump in 1_100..1_000_000_u64,
    ) {
        let (sent, received) = (50_000, 50_000 + way);
        let mut clock = PeerClock::asked(false, sent, received, received + offset);
        prop_assert!(clock.at(received).is_some());
        clock.answered(received + 10, received + 10 + offset + jump);
        prop_assert_eq!(clock.at(received + 10), None);
    }
}
