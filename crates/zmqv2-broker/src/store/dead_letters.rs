//! Dead letters: the notifications that were given up lately, for an operator to look at.

use std::collections::VecDeque;
use std::time::Instant;

use zmqv2_proto::control::{DeadLetter, SHOWN_BYTES};

/// The most letters that are remembered; with the most that is shown of each, about 400 kB.
const MAX_DEAD_LETTERS: usize = 100;

/// The last ones, oldest first.
#[derive(Debug, Default)]
pub(crate) struct DeadLetters(VecDeque<(Instant, DeadLetter)>);

impl DeadLetters {
    /// Remembers one more; above the bound the oldest is forgotten.
    pub(crate) fn add(&mut self, mut letter: DeadLetter, deliveries: u16, why: String, body: &[u8], now: Instant) {
        if self.0.len() == MAX_DEAD_LETTERS {
            self.0.pop_front();
        }
        let shown = &body[..body.len().min(SHOWN_BYTES)];
        letter.body = String::from_utf8_lossy(shown).into_owned();
        (letter.deliveries, letter.why, letter.bytes) = (deliveries.into(), why, body.len() as u64);
        self.0.push_back((now, letter));
    }

    /// As a status report shows them.
    pub(crate) fn report(&self, now: Instant) -> Vec<DeadLetter> {
        let aged = |(since, letter): &(Instant, DeadLetter)| {
            let age_s = now.saturating_duration_since(*since).as_secs_f64();
            let mut letter = letter.clone();
            letter.age_s = age_s;
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
    fn the_last_ones_are_remembered_and_of_each_a_part() {
        let now = crate::driver::now();
        let mut dead_letters = DeadLetters::default();
        for number in 0..=MAX_DEAD_LETTERS as u16 {
            let letter = DeadLetter::new(TopicKey::parse("e/t").unwrap(), None, MessageId::random());
            dead_letters.add(letter, number, "worn out".to_owned(), &[b'x'; SHOWN_BYTES + 1], now);
        }
        let report = dead_letters.report(now);
        assert_eq!((report.len(), report[0].deliveries), (MAX_DEAD_LETTERS, 1));
        assert_eq!((report[0].bytes, report[0].body.len()), (SHOWN_BYTES as u64 + 1, SHOWN_BYTES));
    }
}
