//! Plots as SVG text, for a file or a page.

use std::fmt::Write;

use super::{Spread, figure};

const WIDTH: f64 = 760.0;
const MARGIN: f64 = 14.0;
/// Room for the title and one line of the legend.
const TITLE: f64 = 50.0;
const LEGEND: f64 = 16.0;
/// The approximate width of a letter.
const LETTER: f64 = 6.6;
const ROW: f64 = 19.0;
const GAP: f64 = 10.0;
/// Room for the label right of a bar or a line.
const RIGHT: f64 = 130.0;
/// One colour for each series. They differ in brightness, for readers who cannot see colours.
const COLOURS: [&str; 6] = ["#1d4ed8", "#f59e0b", "#15803d", "#be185d", "#64748b", "#7dd3fc"];

/// How values become lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Linear, from 0.
    Linear,
    /// Logarithmic, for values that differ by orders of magnitude. Values that are not above 0 are
    /// drawn at the edge.
    Log,
}

impl Scale {
    /// A note for the title, because the lengths depend on it.
    fn label(self, unit: &str) -> String {
        if self == Self::Log { format!("{unit}, logarithmic") } else { unit.to_owned() }
    }
}

/// A bar: one series in one group.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// Its group; bars of one group are drawn together.
    pub group: String,
    /// Its series, which gives the colour.
    pub series: String,
    /// The value, with its noise.
    pub spread: Spread,
}

/// A line: the values of one series along an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Its series, which gives the colour.
    pub series: String,
    /// Positions and values.
    pub points: Vec<(f64, Spread)>,
}

/// Horizontal bars in groups. The length of a bar is the median; a thin line shows the smallest and
/// the largest value.
pub fn bars(title: &str, unit: &str, bars: &[Bar], scale: Scale) -> String {
    let mut groups: Vec<&str> = Vec::new();
    let mut series: Vec<&str> = Vec::new();
    for bar in bars {
        if !groups.contains(&bar.group.as_str()) {
            groups.push(&bar.group);
        }
        if !series.contains(&bar.series.as_str()) {
            series.push(&bar.series);
        }
    }
    let longest = groups.iter().map(|group| group.chars().count()).max().unwrap_or(0);
    let left = MARGIN + (longest as f64 * LETTER).clamp(60.0, 330.0);
    let head = TITLE + legend(&series).1;
    let along = Along::of(bars.iter().map(|bar| bar.spread), scale, left, WIDTH - RIGHT);
    let mut body = String::new();
    let mut y = head + 18.0;
    for group in groups {
        let rows: Vec<&Bar> = bars.iter().filter(|bar| bar.group == group).collect();
        let middle = y + rows.len() as f64 * ROW / 2.0 + 1.0;
        let _ = write!(body, "<text x='{}' y='{middle:.1}' text-anchor='end'>{}</text>", left - 8.0, escape(group));
        for bar in rows {
            let colour = colour(&series, &bar.series);
            let Spread { min, median, max } = bar.spread;
            let (from, to, low, high) = (along.start(), along.at(median), along.at(min), along.at(max));
            let (top, centre) = (y + 2.0, y + ROW / 2.0);
            let _ = write!(
                body,
                "<rect x='{from:.1}' y='{top:.1}' width='{:.1}' height='{}' fill='{colour}'/>\
                 <path d='M{low:.1} {centre:.1}H{high:.1}' stroke='#111' fill='none'/>\
                 <text x='{:.1}' y='{:.1}'>{}</text>",
                (to - from).max(1.0),
                ROW - 4.0,
                to.max(high) + 6.0,
                centre + 4.0,
                escape(&figure(median)),
            );
            y += ROW;
        }
        y += GAP;
    }
    frame(title, &scale.label(unit), &series, y + MARGIN, &(along.ticks(head + 12.0, y) + &body))
}

/// Lines over an axis of numbers, which is logarithmic if `scale` is. A mark shows each median; a
/// thin line shows the smallest and the largest value.
pub fn lines(title: &str, unit: &str, axis: &str, lines: &[Line], scale: Scale) -> String {
    let series: Vec<&str> = lines.iter().map(|line| line.series.as_str()).collect();
    let head = TITLE + legend(&series).1;
    let height = head + 250.0;
    let points = || lines.iter().flat_map(|line| &line.points);
    let (top, bottom, left) = (head + 18.0, height - 44.0, 84.0);
    let up = Along::of(points().map(|(_, spread)| *spread), scale, bottom, top);
    let exactly = |x: f64| Spread { min: x, median: x, max: x };
    let across = Along::of(points().map(|(x, _)| exactly(*x)), scale, left, WIDTH - RIGHT);
    let mut body = String::new();
    for value in up.round_values() {
        let y = up.at(value);
        let _ = write!(
            body,
            "<path d='M{left} {y:.1}H{:.1}' stroke='#ddd'/><text x='{}' y='{:.1}' text-anchor='end'>{}</text>",
            WIDTH - RIGHT,
            left - 6.0,
            y + 4.0,
            escape(&figure(value))
        );
    }
    let mut positions: Vec<f64> = points().map(|(x, _)| *x).collect();
    positions.sort_by(f64::total_cmp);
    positions.dedup();
    for x in positions {
        let (at, y) = (across.at(x), bottom + 16.0);
        let _ = write!(body, "<text x='{at:.1}' y='{y}' text-anchor='middle'>{}</text>", escape(&figure(x)));
    }
    let middle = f64::midpoint(left, WIDTH - RIGHT);
    let _ = write!(body, "<text x='{middle}' y='{}' text-anchor='middle'>{}</text>", bottom + 34.0, escape(axis));
    for line in lines {
        let colour = colour(&series, &line.series);
        let at = |(x, spread): &(f64, Spread)| format!("{:.1},{:.1}", across.at(*x), up.at(spread.median));
        let path: Vec<String> = line.points.iter().map(at).collect();
        let _ = write!(body, "<polyline points='{}' fill='none' stroke='{colour}' stroke-width='2'/>", path.join(" "));
        for (x, spread) in &line.points {
            let (x, y) = (across.at(*x), up.at(spread.median));
            let (low, high) = (up.at(spread.min), up.at(spread.max));
            let _ = write!(
                body,
                "<path d='M{x:.1} {low:.1}V{high:.1}' stroke='{colour}'/><circle cx='{x:.1}' cy='{y:.1}' r='3.5' fill='{colour}'/>"
            );
        }
    }
    let ends = lines.iter().filter_map(|line| line.points.last());
    let ends: Vec<_> =
        ends.map(|(x, spread)| (across.at(*x) + 8.0, up.at(spread.median) + 4.0, spread.median)).collect();
    for (x, y, value) in apart(ends) {
        let _ = write!(body, "<text x='{x:.1}' y='{y:.1}'>{}</text>", escape(&figure(value)));
    }
    frame(title, &scale.label(unit), &series, height, &body)
}

/// The labels at the ends of lines, moved so that none covers another. Of equal values one label
/// stays.
fn apart(mut labels: Vec<(f64, f64, f64)>) -> Vec<(f64, f64, f64)> {
    const LINE: f64 = 13.0;
    // From the bottom up.
    labels.sort_by(|a, b| b.1.total_cmp(&a.1));
    labels.dedup_by(|a, b| a.2 == b.2);
    let mut below = f64::INFINITY;
    for (_, y, _) in &mut labels {
        *y = y.min(below - LINE);
        below = *y;
    }
    labels
}

/// An axis: values to positions.
struct Along {
    scale: Scale,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Along {
    fn of(spreads: impl Iterator<Item = Spread>, scale: Scale, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::MAX, 0.0_f64);
        for spread in spreads {
            high = high.max(spread.max);
            if spread.min > 0.0 {
                low = low.min(spread.min);
            }
        }
        let (low, high) = match scale {
            Scale::Linear => (0.0, if high > 0.0 { high } else { 1.0 }),
            // Whole powers of ten, at least one of them.
            Scale::Log if high > 0.0 => {
                // All smallest values may be 0 while the largest are not.
                let (low, high) = (low.min(high).log10().floor(), high.log10().ceil());
                (low, high.max(low + 1.0))
            }
            Scale::Log => (0.0, 1.0),
        };
        Self { scale, low, high, from, to }
    }

    fn start(&self) -> f64 {
        self.from
    }

    fn at(&self, value: f64) -> f64 {
        let value = match self.scale {
            Scale::Linear => value,
            Scale::Log if value > 0.0 => value.log10(),
            Scale::Log => self.low,
        };
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.from + share * (self.to - self.from)
    }

    fn round_values(&self) -> Vec<f64> {
        match self.scale {
            Scale::Log => (self.low as i32..=self.high as i32).map(|power| 10_f64.powi(power)).collect(),
            Scale::Linear => {
                let rough = self.high / 4.0;
                let power = 10_f64.powf(rough.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|step| *step >= rough);
                let step = step.unwrap_or(self.high);
                (0..).map(|n| f64::from(n) * step).take_while(|value| *value <= self.high * 1.0001).collect()
            }
        }
    }

    /// Vertical lines with their values above.
    fn ticks(&self, top: f64, bottom: f64) -> String {
        let mut text = String::new();
        for value in self.round_values() {
            let x = self.at(value);
            let _ = write!(
                text,
                "<path d='M{x:.1} {top}V{bottom:.1}' stroke='#ddd'/>\
                 <text x='{x:.1}' y='{}' text-anchor='middle' fill='#666'>{}</text>",
                top - 3.0,
                escape(&figure(value))
            );
        }
        text
    }
}

/// The frame: background, title with the unit, and legend.
fn frame(title: &str, unit: &str, series: &[&str], height: f64, body: &str) -> String {
    let mut text = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height:.0}' width='{WIDTH}' height='{height:.0}' \
         font-family='system-ui,sans-serif' font-size='12' role='img' aria-label='{0}'>\
         <rect width='{WIDTH}' height='{height:.0}' fill='#fff'/>\
         <text x='{MARGIN}' y='18' font-size='14' font-weight='600'>{0} [{1}]</text>",
        escape(title),
        escape(unit)
    );
    for (n, (name, (x, y))) in series.iter().zip(legend(series).0).enumerate() {
        let colour = COLOURS[n % COLOURS.len()];
        let _ = write!(
            text,
            "<rect x='{x:.1}' y='{:.0}' width='10' height='10' fill='{colour}'/><text x='{:.1}' y='{:.0}'>{}</text>",
            y + 27.0,
            x + 14.0,
            y + 36.0,
            escape(name)
        );
    }
    text + body + "</svg>\n"
}

/// The positions of the names in the legend, in as many lines as they need, and the height of the
/// lines after the first.
fn legend(series: &[&str]) -> (Vec<(f64, f64)>, f64) {
    let (mut x, mut y) = (MARGIN, 0.0);
    let mut places = Vec::new();
    for name in series {
        let width = name.chars().count() as f64 * LETTER + 30.0;
        if x > MARGIN && x + width > WIDTH {
            (x, y) = (MARGIN, y + LEGEND);
        }
        places.push((x, y));
        x += width;
    }
    (places, y)
}

fn colour(series: &[&str], name: &str) -> &'static str {
    COLOURS[series.iter().position(|known| *known == name).unwrap_or(0) % COLOURS.len()]
}

/// Escapes text for HTML and SVG.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::well_formed;

    fn exactly(value: f64) -> Spread {
        Spread { min: value, median: value, max: value }
    }

    #[test]
    fn lengths_follow_the_scale() {
        let along = |scale| Along::of([exactly(10.0), exactly(1000.0)].into_iter(), scale, 0.0, 100.0);
        assert_eq!((along(Scale::Linear).at(500.0), along(Scale::Linear).at(0.0)), (50.0, 0.0));
        assert_eq!((along(Scale::Log).at(100.0), along(Scale::Log).at(0.0)), (50.0, 0.0));
        assert_eq!(along(Scale::Linear).round_values(), [0.0, 500.0, 1000.0]);
        assert_eq!(along(Scale::Log).round_values(), [10.0, 100.0, 1000.0]);
        // If all smallest values are 0, the axis still reaches the largest.
        let from_0 = Along::of([Spread { min: 0.0, median: 0.0, max: 1000.0 }].into_iter(), Scale::Log, 0.0, 100.0);
        assert_eq!((from_0.at(0.0), from_0.round_values()), (0.0, vec![1000.0, 10000.0]));
        // No values, or only zeros, must not fail.
        for scale in [Scale::Linear, Scale::Log] {
            assert!(Along::of([].into_iter(), scale, 0.0, 1.0).at(1.0).is_finite());
            assert!(!bars("t", "u", &[], scale).contains("NaN") && !lines("t", "u", "x", &[], scale).contains("NaN"));
        }
    }

    #[test]
    fn names_of_series_take_the_lines_that_they_need_and_labels_stand_apart() {
        let long = "a name of a series that is rather long";
        let (places, more) = legend(&[long; 5]);
        assert_eq!((places[0], places[1].1, places[2].1, more), ((MARGIN, 0.0), 0.0, LEGEND, 2.0 * LEGEND));
        let labels = apart(vec![(0.0, 50.0, 1.0), (0.0, 49.0, 2.0), (0.0, 50.0, 1.0), (0.0, 10.0, 3.0)]);
        assert_eq!(labels, [(0.0, 50.0, 1.0), (0.0, 37.0, 2.0), (0.0, 10.0, 3.0)]);
    }

    #[test]
    fn plots_are_well_formed() {
        let spread = Spread { min: 0.0, median: 5.0, max: 900.0 };
        let bar = |n: usize| Bar { group: format!("g{} & co", n / 2), series: format!("s{n}"), spread };
        let line = |n: usize| Line { series: format!("<{n}>"), points: vec![(1.0, spread), (50.0, exactly(n as f64))] };
        for scale in [Scale::Linear, Scale::Log] {
            let all: Vec<Bar> = (0..9).map(bar).collect();
            assert_eq!(well_formed(&bars("t & u", "1/s", &all, scale)), Ok(()));
            let all: Vec<Line> = (0..9).map(line).collect();
            assert_eq!(well_formed(&lines("t & u", "1/s", "x", &all, scale)), Ok(()));
        }
    }

    #[test]
    fn names_cannot_break_out_of_a_plot() {
        let bar = Bar { group: "<a & 'b'>".to_owned(), series: "\"s\"".to_owned(), spread: exactly(1.0) };
        let svg = bars("<t>", "1/s", &[bar], Scale::Linear);
        assert!(
            svg.contains("&lt;a &amp; &#39;b&#39;&gt;") && svg.contains("&quot;s&quot;") && svg.contains("&lt;t&gt;")
        );
    }
}
