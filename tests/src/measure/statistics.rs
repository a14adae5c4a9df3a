//! Samples, series of them, and ratios of series.

use std::fmt;

use serde::Serialize;

use super::figure;

/// One measured value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// Its name, such as `CALL, 8 callers, rate`.
    pub name: String,
    pub unit: &'static str,
    pub value: f64,
}

impl Sample {
    pub fn new(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self { name: name.into(), unit, value }
    }
}

/// The values of one name for one contender, in the order of the rounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    pub name: String,
    pub unit: &'static str,
    /// One value for each round in which it was measured.
    pub values: Vec<f64>,
}

impl Series {
    /// The spread of its values; `None` if it is empty.
    pub fn spread(&self) -> Option<Spread> {
        Spread::of(&self.values)
    }
}

/// The smallest, the median and the largest of some values. The distance between them is the noise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub min: f64,
    /// The median; of an even number of values, the mean of the middle two.
    pub median: f64,
    pub max: f64,
}

impl Spread {
    /// The spread of these values; `None` if there are none. NaN does not count.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        Self::among(values.iter().copied().filter(|value| value.is_finite()))
    }

    fn among(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let half = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) };
        Some(Self { min, median, max })
    }
}

impl fmt::Display for Spread {
    /// `median (min .. max)`, or only the median if all are the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&figure(self.median))?;
        if self.min < self.max { write!(f, " ({} .. {})", figure(self.min), figure(self.max)) } else { Ok(()) }
    }
}

/// A series of ours against that of a reference, round by round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ratio {
    pub ours: Series,
    pub reference: Series,
    /// Ours divided by the reference, for each round that has both.
    pub ratios: Vec<f64>,
}

impl Ratio {
    /// The ratio of two series of the same run.
    #[must_use]
    pub fn new(ours: &Series, reference: &Series) -> Self {
        let ratios = ours.values.iter().zip(&reference.values).map(|(a, b)| a / b).collect();
        Self { ours: ours.clone(), reference: reference.clone(), ratios }
    }

    /// The spread of the ratios; `None` if no round has both values. If the reference is 0 and ours
    /// is not, the ratio is infinite. Leaving it out would hide the worst rounds of the reference.
    pub fn spread(&self) -> Option<Spread> {
        Spread::among(self.ratios.iter().copied().filter(|ratio| !ratio.is_nan()))
    }
}

/// The value below which a `share` (0 to 1) of the values lies; `None` if there are none.
pub fn percentile(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let index = (values.len() as f64 * share) as usize;
    values.get(index.min(values.len().saturating_sub(1))).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[f64]) -> Series {
        Series { name: "x".to_owned(), unit: "s", values: values.to_vec() }
    }

    #[test]
    fn a_spread_is_of_numbers_only() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[f64::NAN]), None);
        assert_eq!(Spread::of(&[3.0, 1.0, f64::INFINITY, 2.0]), Some(Spread { min: 1.0, median: 2.0, max: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of(&[4.0, 4.0]).unwrap().to_string(), "4");
        assert_eq!(Spread::of(&[4.0, 1.0]).unwrap().to_string(), "2.5 (1 .. 4)");
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        // Twice as fast in every round, on a machine that slows down to half.
        let ratio = Ratio::new(&series(&[200.0, 100.0]), &series(&[100.0, 50.0]));
        assert_eq!(ratio.spread(), Some(Spread { min: 2.0, median: 2.0, max: 2.0 }));
        // A reference of 0 is not left out. If ours is 0 as well, the round says nothing.
        let ratio = Ratio::new(&series(&[6.0, 1.0, 4.0, 0.0]), &series(&[2.0, 0.0, 2.0, 0.0])).spread().unwrap();
        assert_eq!(ratio, Spread { min: 2.0, median: 3.0, max: f64::INFINITY });
        assert_eq!(ratio.to_string(), "3 (2 .. infinite)");
        assert_eq!(Ratio::new(&series(&[0.0]), &series(&[0.0])).spread(), None);
    }

    #[test]
    fn percentiles_of_few_and_of_none() {
        assert_eq!(percentile(&mut [], 0.5), None);
        assert_eq!(percentile(&mut [7.0], 0.99), Some(7.0));
        let mut hundred: Vec<f64> = (0..100).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut hundred, 0.5), Some(50.0));
        assert_eq!(percentile(&mut hundred, 1.0), Some(99.0));
    }
}
