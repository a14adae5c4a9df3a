//! The last dead letters, for the status report.

use std::collections::VecDeque;
use std::time::Instant;

use zmqv2_proto::control::{DeadLetter, SHOWN_BYTES};

/// The most dead letters that are shown. With the longest bodies they take about 400 kB.
const MAX_DEAD_LETTERS: usize = 100;

/// The last dead letters, oldest first, each with the time at which it was given up.
#[derive(Debug, Default)]
pub(crate) struct DeadLetters(VecDeque<(Instant, DeadLetter)>);

impl DeadLetters {
    /// Adds a dead letter with the beginning of its body. Above the bound the oldest one goes.
    pub(crate) fn add(&mut self, mut letter: DeadLetter, body: &[u8], since: Instant) {
        if self.0.len() == MAX_DEAD_LETTERS {
            self.0.pop_front();
        }
        letter.body = String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES)]).into_owned();
        letter.bytes = body.len() as u64;
        self.0.push_back((since, letter));
    }

    pub(crate) fn report(&self, now: Instant) -> Vec<DeadLetter> {
        let aged = |(since, letter): &(Instant, DeadLetter)| {
            let mut letter = letter.clone();
            letter.age_s = now.saturating_duration_since(*since).as_secs_f64();
            letter
        };
        self.0.iter().map(aged).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zmqv2_proto::{MessageId, TopicKey};

    #[test]
    fn the_last_ones_stay_with_the_beginning_of_their_bodies() {
        let now = crate::threads::now();
        let mut letters = DeadLetters::default();
        for number in 0..=MAX_DEAD_LETTERS as u64 {
            let mut letter = DeadLetter::new(TopicKey::parse("e/t").unwrap(), None, MessageId::random());
            letter.deliveries = number;
            letters.add(letter, &[b'x'; SHOWN_BYTES + 1], now);
        }
        let report = letters.report(now);
        assert_eq!((report.len(), report[0].deliveries), (MAX_DEAD_LETTERS, 1));
        assert_eq!((report[0].bytes, report[0].body.len()), (SHOWN_BYTES as u64 + 1, SHOWN_BYTES));
    }
}
