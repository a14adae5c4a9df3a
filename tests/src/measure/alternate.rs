//! Measures contenders in turns.

use super::{Progress, Ratio, Sample, Series};

/// A contender: a name, and the measurement of one round.
pub struct Contender<'a, E> {
    pub name: &'a str,
    /// Measures once. An error ends the run.
    pub run: Box<dyn FnMut() -> Result<Vec<Sample>, E> + 'a>,
}

impl<'a, E> Contender<'a, E> {
    /// Makes a contender that `run` measures in each round.
    pub fn new(name: &'a str, run: impl FnMut() -> Result<Vec<Sample>, E> + 'a) -> Self {
        Self { name, run: Box::new(run) }
    }
}

/// The measured values of each contender: a [`Series`] for each name, in the order in which they
/// first came.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Measured {
    contenders: Vec<(String, Vec<Series>)>,
}

impl Measured {
    pub fn add(&mut self, contender: &str, samples: Vec<Sample>) {
        let known = self.contenders.iter().position(|(name, _)| name == contender);
        let index = known.unwrap_or_else(|| {
            self.contenders.push((contender.to_owned(), Vec::new()));
            self.contenders.len() - 1
        });
        let all = &mut self.contenders[index].1;
        for Sample { name, unit, value } in samples {
            match all.iter_mut().find(|series| series.name == name) {
                Some(series) => series.values.push(value),
                None => all.push(Series { name, unit, values: vec![value] }),
            }
        }
    }

    /// Adds another measurement, such as one of another size.
    pub fn merge(&mut self, other: Self) {
        for (contender, all) in other.contenders {
            for Series { name, unit, values } in all {
                for value in values {
                    self.add(&contender, vec![Sample::new(name.as_str(), unit, value)]);
                }
            }
        }
    }

    pub fn of(&self, contender: &str) -> &[Series] {
        self.contenders.iter().find(|(name, _)| name == contender).map_or(&[], |(_, all)| all)
    }

    pub fn series(&self, contender: &str, name: &str) -> Option<&Series> {
        self.of(contender).iter().find(|series| series.name == name)
    }

    /// The ratio of one series of two contenders.
    pub fn ratio(&self, ours: &str, reference: &str, name: &str) -> Option<Ratio> {
        Some(Ratio::new(self.series(ours, name)?, self.series(reference, name)?))
    }

    pub fn contenders(&self) -> impl Iterator<Item = &str> {
        self.contenders.iter().map(|(name, _)| name.as_str())
    }

    /// The names of everything that was measured, in the order in which they first came.
    pub fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for series in self.contenders.iter().flat_map(|(_, all)| all) {
            if !names.contains(&series.name.as_str()) {
                names.push(series.name.as_str());
            }
        }
        names
    }
}

/// The order in which `count` contenders are measured in a round. Every other round is reversed, so
/// that a drift of the machine affects all alike.
pub fn turns(round: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |index| if round % 2 == 1 { count - 1 - index } else { index })
}

/// Measures all contenders once in each round, in the order of [`turns`].
pub fn alternate<E>(
    rounds: usize,
    what: &str,
    contenders: &mut [Contender<'_, E>],
    progress: &mut Progress,
) -> Result<Measured, E> {
    let mut measured = Measured::default();
    for round in 0..rounds {
        for index in turns(round, contenders.len()) {
            let contender = &mut contenders[index];
            progress.step(&format!("{what}: {}, round {} of {rounds}", contender.name, round + 1));
            measured.add(contender.name, (contender.run)()?);
        }
    }
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn contenders_take_turns_and_ratios_are_of_the_same_round() {
        let order = RefCell::new(Vec::new());
        let run = |name: &'static str, factor: f64| {
            let (order, mut round) = (&order, 0.0);
            Contender::new(name, move || {
                order.borrow_mut().push(name);
                round += 1.0;
                Ok::<_, ()>(vec![Sample::new("rate", "1/s", factor * round)])
            })
        };
        let measured = alternate(3, "test", &mut [run("a", 2.0), run("b", 1.0)], &mut Progress::silent(6)).unwrap();
        assert_eq!(*order.borrow(), ["a", "b", "b", "a", "a", "b"]);
        assert_eq!(measured.series("a", "rate").unwrap().values, [2.0, 4.0, 6.0]);
        assert_eq!(measured.ratio("a", "b", "rate").unwrap().ratios, [2.0, 2.0, 2.0]);
        assert_eq!((measured.names(), measured.series("c", "rate")), (vec!["rate"], None));
    }

    #[test]
    fn an_error_ends_it() {
        let mut never = 0;
        let mut contenders = [
            Contender::new("a", || Err("broken")),
            Contender::new("b", || {
                never += 1;
                Ok(Vec::new())
            }),
        ];
        assert_eq!(alternate(3, "test", &mut contenders, &mut Progress::silent(6)), Err("broken"));
        drop(contenders);
        assert_eq!(never, 0);
    }
}
