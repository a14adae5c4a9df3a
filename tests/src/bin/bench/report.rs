//! The results as a table on the terminal, and as a report.

use serde_json::json;
use zmqv2_tests::measure::plot::{Bar, Scale, bars};
use zmqv2_tests::measure::{Machine, Plot, Report, Section, Spread, Table, figure};

use crate::chain::{P50, P99, RATE, cpu_of, memory_of};
use crate::peers::Peers;
use crate::process::Role;
use crate::row_result::{Line, RowResult};
use crate::run::Pace;

/// The table for the terminal.
pub(crate) fn screen(results: &[RowResult]) -> String {
    let table = results_table(results);
    let width = |column: usize| {
        let cells = table.rows.iter().chain([&table.head]).map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..table.head.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            // Names are on the left, numbers on the right.
            0 | 1 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    [&table.head].into_iter().chain(&table.rows).map(line).collect()
}

fn results_table(results: &[RowResult]) -> Table {
    let mut table =
        Table::new(["row", "figure", "ours", "reference", "", "ratio: min", "median", "max", "goal", "verdict"]);
    for outcome in results {
        for line in outcome.lines() {
            table.row(cells(&outcome.row.id, &line));
        }
    }
    table
}

fn cells(id: &str, line: &Line) -> [String; 10] {
    let middle = |spread: Option<Spread>| spread.map_or_else(String::new, |spread| figure(spread.median));
    let ratio = |pick: fn(Spread) -> f64| line.ratio.map_or_else(String::new, |ratio| figure(pick(ratio)));
    let (name, reference) =
        line.reference.as_ref().map_or_else(Default::default, |(name, spread)| (name.clone(), figure(spread.median)));
    [
        id.to_owned(),
        format!("{} ({})", line.figure, line.unit),
        middle(line.ours),
        name,
        reference,
        ratio(|ratio| ratio.min),
        ratio(|ratio| ratio.median),
        ratio(|ratio| ratio.max),
        line.goal_text(),
        line.verdict().to_owned(),
    ]
}

/// The whole report.
pub(crate) fn report(results: &[RowResult], pace: Pace, peers: &Peers, command: &str) -> Report {
    let lines: Vec<Line> = results.iter().flat_map(RowResult::lines).collect();
    let count = |met| lines.iter().filter(|line| line.met == Some(met)).count();
    let mut summary = format!(
        "Calls, casts and fanouts of zmqv2 as seen through its public API, JSON included, beside a chain of raw libzmq with \
         zmq_proxy and no logic, and others. Goals met: {}, missed: {}. Each value is the median of {} rounds. A ratio \
         divides values of the same round, and its median decides whether a goal is met.",
        count(true),
        count(false),
        pace.rounds
    );
    for line in peers.skipped() {
        summary.push_str(&format!("\n\n{line}"));
    }
    Report {
        title: "zmqv2: benchmark".to_owned(),
        summary,
        machine: Machine::here(),
        commands: vec![command.trim().to_owned()],
        noise: format!(
            "Client, broker and servers are separate processes on one machine: TCP between client and broker, IPC between \
             broker and servers. All contenders of a row were measured in every round for {:?}, in changing order, each with \
             fresh processes and after a warm-up. The machine drifts, so ratios within a round say more than single values.",
            pace.span
        ),
        sections: vec![ratios(results), costs(results)],
    }
}

fn ratios(results: &[RowResult]) -> Section {
    let mut titles = Table::new(["row", "what it measures"]);
    for outcome in results {
        titles.row([&outcome.row.id, &outcome.row.title]);
    }
    let mut plots = Vec::new();
    for (name, figure, title, unit) in [
        ("rates", RATE, "Messages per second: more is better", "1/s"),
        ("latencies", P50, "Latency of one caller: less is better", "us"),
    ] {
        let compared = results.iter().filter(|outcome| outcome.row.figure == figure);
        let bar = |outcome: &RowResult| {
            let values = outcome.measured.contenders().filter_map(|contender| {
                let spread = outcome.measured.series(contender, figure)?.spread()?;
                Some(Bar { group: outcome.row.id.clone(), series: contender.to_owned(), spread })
            });
            values.collect::<Vec<_>>()
        };
        let drawn: Vec<Bar> = compared.flat_map(bar).collect();
        if !drawn.is_empty() {
            let svg = bars(title, unit, &drawn, Scale::Log);
            plots.push(Plot { name: name.to_owned(), alt: title.to_owned(), svg });
        }
    }
    Section {
        title: "Results".to_owned(),
        text: "Ours against each reference. Where less is better, a ratio below 1 is good.".to_owned(),
        tables: vec![results_table(results), titles],
        plots,
        data: json!({ "rows": results.iter().map(RowResult::json).collect::<Vec<_>>() }),
    }
}

/// Processor time and memory by role.
fn costs(results: &[RowResult]) -> Section {
    let mut head = vec!["row".to_owned(), "whose".to_owned(), RATE.to_owned(), P50.to_owned(), P99.to_owned()];
    head.extend(Role::ALL.map(cpu_of));
    head.extend(Role::ALL.map(memory_of));
    let mut table = Table::new(head.clone());
    for outcome in results {
        for contender in outcome.measured.contenders() {
            let value = |name: &String| {
                let series = outcome.measured.series(contender, name);
                series
                    .and_then(zmqv2_tests::measure::Series::spread)
                    .map_or_else(String::new, |spread| figure(spread.median))
            };
            let cells: Vec<String> = head[2..].iter().map(value).collect();
            if cells.iter().any(|cell| !cell.is_empty()) {
                let names = [outcome.row.id.clone(), contender.to_owned()];
                table.row(names.into_iter().chain(cells));
            }
        }
    }
    Section {
        title: "Cost of each role".to_owned(),
        text: "Processor time per message in microseconds, and resident memory in MiB, of all processes of a role together. \
               A rate is in messages per second, latencies are in microseconds."
            .to_owned(),
        tables: vec![table],
        ..Section::default()
    }
}
