//! The result of a row: ratios, and whether its goals are met.

use serde_json::{Value, json};
use zmqv2_tests::measure::{Measured, Spread, figure};

use crate::rows::{Bound, Goal, Row};

/// A measured row.
pub(crate) struct RowResult {
    pub(crate) row: Row,
    pub(crate) measured: Measured,
}

/// One line of the table of results: zmqv2 against one other contender, or alone.
pub(crate) struct Line {
    pub(crate) figure: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) ours: Option<Spread>,
    /// The other contender and its values.
    pub(crate) reference: Option<(String, Spread)>,
    /// Ours divided by the reference, round by round.
    pub(crate) ratio: Option<Spread>,
    pub(crate) goal: Option<Goal>,
    /// Decided by the median of the ratios, or of the values of zmqv2.
    pub(crate) met: Option<bool>,
}

impl Line {
    pub(crate) fn goal_text(&self) -> String {
        self.goal.as_ref().map_or_else(String::new, |goal| match goal.bound {
            Bound::AtMost(bound) => format!("<= {}", figure(bound)),
            Bound::AtLeast(bound) => format!(">= {}", figure(bound)),
        })
    }

    pub(crate) fn verdict(&self) -> &'static str {
        match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        }
    }
}

impl RowResult {
    /// Its lines: one for each other contender, and one for each goal on a value of zmqv2.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let mut names = self.measured.contenders();
        let Some(ours) = names.next() else { return Vec::new() };
        let mut lines = Vec::new();
        for other in names {
            let goal = self.row.goals.iter().find(|goal| goal.against.as_deref() == Some(other)).cloned();
            let Some(ratio) = self.measured.ratio(ours, other, self.row.figure) else { continue };
            let spread = ratio.spread();
            lines.push(Line {
                figure: self.row.figure,
                unit: ratio.ours.unit,
                ours: ratio.ours.spread(),
                reference: ratio.reference.spread().map(|spread| (other.to_owned(), spread)),
                ratio: spread,
                met: goal.as_ref().zip(spread).map(|(goal, spread)| goal.bound.is_met(spread.median)),
                goal,
            });
        }
        for goal in self.row.goals.iter().filter(|goal| goal.against.is_none()) {
            let Some(series) = self.measured.series(ours, goal.figure) else { continue };
            let spread = series.spread();
            lines.push(Line {
                figure: goal.figure,
                unit: series.unit,
                ours: spread,
                reference: None,
                ratio: None,
                met: spread.map(|spread| goal.bound.is_met(spread.median)),
                goal: Some(goal.clone()),
            });
        }
        if lines.is_empty() {
            // No other contender was available.
            lines.extend(self.measured.series(ours, self.row.figure).map(|series| Line {
                figure: self.row.figure,
                unit: series.unit,
                ours: series.spread(),
                reference: None,
                ratio: None,
                goal: None,
                met: None,
            }));
        }
        lines
    }

    /// The row as JSON.
    pub(crate) fn json(&self) -> Value {
        let lines = self.lines().into_iter().map(|line| {
            json!({
                "figure": line.figure,
                "unit": line.unit,
                "ours": line.ours,
                "reference": line.reference.as_ref().map(|(name, _)| name),
                "reference_values": line.reference.as_ref().map(|(_, spread)| spread),
                "ratio": line.ratio,
                "goal": line.goal.as_ref().map(|_| line.goal_text()),
                "met": line.met,
            })
        });
        json!({
            "id": self.row.id,
            "title": self.row.title,
            "lines": lines.collect::<Vec<_>>(),
            "measured": self.measured,
        })
    }
}

#[cfg(test)]
mod tests {
    use zmqv2_tests::measure::Sample;

    use super::*;
    use crate::chain::RATE;
    use crate::rows::{Kind, LOST, OTHER, all};

    fn row(id: &str) -> Row {
        all().into_iter().find(|row| row.id == id).unwrap()
    }

    #[test]
    fn a_goal_is_judged_by_the_middle_ratio_and_a_missing_contestant_is_left_out() {
        let mut measured = Measured::default();
        for (ours, raw) in [(90.0, 100.0), (95.0, 100.0), (10.0, 100.0)] {
            measured.add("zmqv2", vec![Sample::new(RATE, "1/s", ours)]);
            measured.add("raw libzmq", vec![Sample::new(RATE, "1/s", raw)]);
        }
        let outcome = RowResult { row: row("later-1000-128"), measured };
        let lines = outcome.lines();
        assert_eq!(lines.len(), 1, "NATS was not there");
        assert_eq!(lines[0].ratio, Some(Spread { min: 0.1, median: 0.9, max: 0.95 }));
        assert_eq!((lines[0].goal_text().as_str(), lines[0].verdict()), (">= 0.9", "met"));
        assert_eq!(outcome.json()["lines"][0]["met"], true);
    }

    #[test]
    fn a_goal_on_a_value_stands_alone() {
        let mut measured = Measured::default();
        measured.add("zmqv2", vec![Sample::new(LOST, "", 3.0), Sample::new(OTHER, "", 1.0)]);
        let row = row("death");
        assert!(matches!(row.kind, Kind::Death(_)));
        let outcome = RowResult { row, measured };
        let lines = outcome.lines();
        assert_eq!((lines[0].figure, lines[0].verdict(), lines.len()), (OTHER, "MISSED", 1));
    }
}
