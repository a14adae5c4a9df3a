//! Makes the report of all measurements.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::code::{Lines, Purpose, total};
use super::faults::{FAULTS, FaultResult, MessageCounts};
use super::footprint::{CALL_STYLES, CallStyle, Footprint, SPARE};
use super::speed::{CAST, CAST_ACKED, CAST_LOST, LOST, call_name, callers_of, fanout_name, pause};
use super::{Counted, Plan, Variant};
use crate::measure::plot::{Bar, Line, Scale, bars, lines};
use crate::measure::{Machine, Measured, Plot, Ratio, Report, Section, Series, Spread, Table, figure};

pub(super) struct Everything {
    pub(super) calls: Measured,
    pub(super) casts: Measured,
    pub(super) fanouts: Measured,
    pub(super) footprint: Vec<Footprint>,
    pub(super) faults: Vec<FaultResult>,
    pub(super) code: Counted,
}

const OURS: &str = "zmqv2";
const LEGACY: &str = "legacy";
const HELPED: &str = "legacy, helped";
/// The goal for calls: this many times the legacy driver's rate.
const GOAL: f64 = 2.0;

pub(super) fn compose(all: &Everything, plan: &Plan, machine: Machine, command: &str, took: Duration) -> Report {
    let sections = vec![
        claims(all, plan),
        calls(all, plan),
        casts_and_fanouts(all, plan),
        processes(&all.footprint),
        losses(&all.faults),
        code(&all.code),
    ];
    Report {
        title: "zmqv2 and the legacy driver: the numbers".to_owned(),
        summary: "Both drivers are written in Rust over the same libzmq and run on the same machine. So a difference \
                  between them comes from the pattern: the legacy driver sends over PUSH and PULL and answers over PUB \
                  and SUB; zmqv2 uses REQ, DEALER, ROUTER and REP.\n\n\
                  \"legacy\" behaves as the original does. \"legacy, helped\" is the legacy driver at its best: the SUB \
                  socket for a reply uses an existing context, and each call pauses before it sends its request, just \
                  long enough that the SUB socket joins and almost no reply is lost. \"zmqv2, patient\" sets two options: \
                  messages wait for a server (`wait_for_ready`), and are sent again when they may be lost (`retry(3)`)."
            .to_owned(),
        machine,
        commands: vec![command.to_owned()],
        noise: format!(
            "All processes run at the same time on one machine: one daemon for each node, the servers and the callers. \
             The drivers take turns: {} rounds for speed, {} for what processes need, {} for each fault. Every other \
             round runs in reverse order. A ratio divides two values of the same round. Every figure is the median, \
             with the smallest and the largest value in parentheses; these show the noise. The run took {} s.",
            plan.rounds,
            plan.footprint_rounds,
            plan.fault_rounds,
            took.as_secs()
        ),
        sections,
    }
}

fn shown(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "-".to_owned(), |spread| spread.to_string())
}

fn times(ratio: Option<&Ratio>) -> String {
    ratio.and_then(Ratio::spread).map_or_else(|| "-".to_owned(), |spread| format!("{spread} x"))
}

/// The claims of the request, with the numbers for each.
fn claims(all: &Everything, plan: &Plan) -> Section {
    let mut table = Table::new(["claim of the request", "legacy", "zmqv2", "verdict"]);
    let mut data = Vec::new();
    for &callers in &plan.callers {
        let name = call_name(callers, "rate");
        let at = |variant| shown(all.calls.series(variant, &name).and_then(Series::spread));
        // The goal applies to the legacy driver as it is, and at its best.
        for reference in [LEGACY, HELPED] {
            let ratio = all.calls.ratio(OURS, reference, &name);
            let median = ratio.as_ref().and_then(Ratio::spread).map(|spread| spread.median);
            // Against a rate of 0 the ratio is infinite, which meets the goal. JSON writes it as
            // null.
            let holds = median.is_some_and(|median| median >= GOAL);
            let verdict = format!("{}: {} (goal: {GOAL} x)", word(holds), times(ratio.as_ref()));
            let note = if reference == HELPED { ", legacy helped" } else { "" };
            table.row([
                format!("it may increase performance: {name}, answers/s{note}"),
                at(reference),
                at(OURS),
                verdict,
            ]);
            let claim = json!({"claim": "performance", "callers": callers, "reference": reference, "ratio": median, "holds": holds});
            data.push(claim);
        }
    }
    let nodes = plan.nodes.last().copied().unwrap_or(1);
    for style in CALL_STYLES {
        let of = |driver: &str, style: CallStyle| {
            let here = |print: &&Footprint| print.driver == driver && print.nodes == nodes;
            all.footprint.iter().filter(here).find(|print| print.style == style.to_string())
        };
        if let (Some(legacy), Some(ours)) = (of(LEGACY, style.of_legacy()), of(OURS, style)) {
            let (legacy, ours) = (legacy.connections, ours.connections);
            let holds = ours.max < legacy.min;
            let what = format!("the number of connections is reduced: TCP connections of {nodes} nodes, {style}");
            table.row([what, legacy.to_string(), ours.to_string(), word(holds).to_owned()]);
            let (style, legacy, ours) = (style.to_string(), legacy.median, ours.median);
            data.push(json!({"claim": "connections", "style": style, "legacy": legacy, "zmqv2": ours, "holds": holds}));
        }
    }
    let (code, code_data) = code_claims(&all.code);
    table.rows.extend(code.rows);
    data.extend(code_data);
    let acked_share = |variant: &str| shown(all.casts.series(variant, CAST_ACKED).and_then(Series::spread));
    let what = "a cast is acknowledged: share of casts whose sender is told that a server has it, %".to_owned();
    let acked = all.casts.series(OURS, CAST_ACKED).and_then(Series::spread);
    let holds = acked.is_some_and(|spread| spread.min >= 100.0);
    table.row([what, acked_share(LEGACY), acked_share(OURS), word(holds).to_owned()]);
    data.push(json!({"claim": "acknowledged", "holds": holds}));
    for &callers in &plan.callers {
        let name = call_name(callers, LOST);
        let of = |variant| all.calls.series(variant, &name).and_then(Series::spread);
        // If the legacy driver loses none either, the claim does not hold.
        let holds =
            of(OURS).is_some_and(|spread| spread.max == 0.0) && of(LEGACY).is_some_and(|spread| spread.median > 0.0);
        let what = format!("a reply has no second connection that can fail: {name}, %");
        table.row([what, shown(of(LEGACY)), shown(of(OURS)), word(holds).to_owned()]);
        data.push(json!({"claim": "replies", "callers": callers, "holds": holds}));
    }
    for fault in &all.faults {
        let lost = |variant: usize| fault.spread(variant, |counts| counts.lost_silently as f64);
        let none = |spread: Option<Spread>| spread.is_some_and(|spread| spread.max == 0.0);
        // If the legacy driver loses nothing either, the claim does not hold.
        let holds = none(lost(1)) && lost(0).is_some_and(|spread| spread.median > 0.0);
        let what = format!("its reliability is higher: {}, lost in silence", fault.name);
        let mut ours = shown(lost(1));
        if let Some(died) = fault.spread(1, |counts| counts.lost_with_server as f64).filter(|spread| spread.max > 0.0) {
            let _ = write!(ours, ", and {died} acked, then the server died");
        }
        table.row([what, shown(lost(0)), ours, word(holds).to_owned()]);
        data.push(json!({"claim": "reliability", "fault": fault.name, "holds": holds}));
    }
    Section {
        title: "What the request claims".to_owned(),
        text: "Each claim of the request, with the numbers that confirm or refute it. The sections below give the \
               details."
            .to_owned(),
        tables: vec![table],
        data: data.into(),
        ..Section::default()
    }
}

/// The claims about the code for replies, as rows for the table of claims and as data.
pub(super) fn code_claims(counted: &Counted) -> (Table, Vec<Value>) {
    let lines = [&counted.legacy, &counted.zmqv2];
    let only = "lines without checks, and without what acknowledgements use as well";
    let (mut table, mut data) = (Table::new([""; 4]), Vec::new());
    for (name, what) in [("code", "lines"), ("code for replies alone", only)] {
        let [before, after] = lines
            .map(|lines| total(lines, |item| name == "code" || !(item.for_acks || item.purpose == Purpose::Checks)));
        let holds = after < before;
        let claim = format!("less code for supporting replies: {what}");
        table.row([claim, before.to_string(), after.to_string(), word(holds).to_owned()]);
        data.push(json!({"claim": name, "legacy": before, "zmqv2": after, "holds": holds}));
    }
    (table, data)
}

fn word(holds: bool) -> &'static str {
    if holds { "holds" } else { "does not hold" }
}

/// A row for each name, a column for each contender, and ratios of ours to the others.
fn comparison(measured: &Measured, names: &[String], with_ratios: bool) -> Table {
    let contenders: Vec<&str> = measured.contenders().collect();
    let others: Vec<&str> = contenders.iter().copied().filter(|name| *name != OURS).collect();
    let mut head = vec!["what".to_owned()];
    head.extend(contenders.iter().map(|name| (*name).to_owned()));
    if with_ratios {
        head.extend(others.iter().map(|other| format!("{OURS} / {other}")));
    }
    let mut table = Table::new(head);
    for name in names {
        let of = |contender: &&str| measured.series(contender, name);
        let unit = contenders.iter().find_map(of).map_or("", |series| series.unit);
        let mut row = vec![format!("{name} [{unit}]")];
        row.extend(contenders.iter().map(|contender| shown(of(contender).and_then(Series::spread))));
        if with_ratios {
            row.extend(others.iter().map(|other| times(measured.ratio(OURS, other, name).as_ref())));
        }
        table.row(row);
    }
    table
}

/// A bar for each contender of each name.
fn bars_of(measured: &Measured, names: &[(String, String)]) -> Vec<Bar> {
    let contenders: Vec<&str> = measured.contenders().collect();
    let bar = |(group, name): &(String, String), contender: &str| {
        let spread = measured.series(contender, name)?.spread()?;
        Some(Bar { group: group.clone(), series: contender.to_owned(), spread })
    };
    names.iter().flat_map(|name| contenders.iter().filter_map(move |contender| bar(name, contender))).collect()
}

fn calls(all: &Everything, plan: &Plan) -> Section {
    let names = |what: &str| -> Vec<String> { plan.callers.iter().map(|callers| call_name(*callers, what)).collect() };
    let labelled = |what: &str| -> Vec<(String, String)> {
        plan.callers.iter().map(|n| (callers_of(*n), call_name(*n, what))).collect()
    };
    let plot = |name: &str, title: &str, unit: &str, what: &str| Plot {
        name: name.to_owned(),
        alt: format!("{title} by number of callers, for both drivers"),
        svg: bars(title, unit, &bars_of(&all.calls, &labelled(what)), Scale::Log),
    };
    // Each caller waits for the pause in each call, so the pause bounds the rate on any machine.
    let caps: Vec<String> = plan
        .callers
        .iter()
        .map(|&callers| {
            let (pause, callers_of) = (pause(callers), callers_of(callers));
            let most = figure(callers as f64 * 1e3 / pause as f64);
            format!("{pause} ms with {callers_of}, so at most {most} answers/s")
        })
        .collect();
    Section {
        title: "CALL".to_owned(),
        text: format!(
            "Threads of one process call a server at another node, over TCP, with 128 bytes, and wait for the answer. \
             The rate counts answers. A lost reply costs the legacy driver its timeout, which is 1 s here and 60 s by \
             default.\n\nThe pause before each call of \"legacy, helped\" limits its rate and is part of its latency: {}.",
            caps.join("; ")
        ),
        tables: vec![
            comparison(&all.calls, &names("rate"), true),
            comparison(&all.calls, &[names("p50"), names("p99")].concat(), true),
            comparison(&all.calls, &names(LOST), false),
        ],
        plots: vec![
            plot("call-rate", "CALL: rate", "answers/s", "rate"),
            plot("call-p50", "CALL: median latency", "us", "p50"),
            plot("call-p99", "CALL: 99th percentile", "us", "p99"),
        ],
        data: serde_json::to_value(&all.calls).unwrap_or_default(),
    }
}

fn casts_and_fanouts(all: &Everything, plan: &Plan) -> Section {
    let names: Vec<String> = plan.fanout_servers.iter().map(|servers| fanout_name(*servers, "rate")).collect();
    let lost: Vec<String> = plan.fanout_servers.iter().map(|servers| fanout_name(*servers, "never ran")).collect();
    let mut labelled = vec![("CAST".to_owned(), CAST.to_owned())];
    labelled.extend(plan.fanout_servers.iter().zip(&names).map(|(n, name)| (format!("FANOUT to {n}"), name.clone())));
    let mut together = all.casts.clone();
    together.merge(all.fanouts.clone());
    Section {
        title: "CAST and FANOUT".to_owned(),
        text: "One thread sends as fast as it can, over TCP to another node. The clock stops when the last message has \
               run. The legacy driver sends without an acknowledgement. In zmqv2 every message is acknowledged, a fanout \
               by every server."
            .to_owned(),
        tables: vec![
            comparison(&together, &[vec![CAST.to_owned()], names].concat(), true),
            comparison(&together, &[vec![CAST_LOST.to_owned()], lost].concat(), false),
        ],
        plots: vec![Plot {
            name: "cast-fanout-rate".to_owned(),
            alt: "messages a second of casts and fanouts, for both drivers".to_owned(),
            svg: bars("CAST and FANOUT: rate", "messages/s", &bars_of(&together, &labelled), Scale::Log),
        }],
        data: serde_json::to_value(&together).unwrap_or_default(),
    }
}

fn processes(all: &[Footprint]) -> Section {
    let head = ["nodes", "process", "driver", "calls", "sockets", "TCP connections", "threads", "resident KiB"];
    let mut table = Table::new(head);
    let mut connections =
        Table::new(["nodes", "driver", "calls", "TCP connections of all processes", "answers/s meanwhile"]);
    for print in all {
        let (nodes, driver, style) = (print.nodes.to_string(), print.driver.clone(), print.style.clone());
        for process in &print.processes {
            let figures = [process.sockets, process.tcp, process.threads, process.memory_kib];
            let mut row = vec![nodes.clone(), process.kind.to_owned(), driver.clone(), style.clone()];
            row.extend(figures.map(|figure| figure.to_string()));
            table.row(row);
        }
        connections.row([nodes, driver, style, print.connections.to_string(), print.rate.to_string()]);
    }
    let series = |print: &Footprint| format!("{}, {}", print.driver, print.style);
    let mut lines_of: Vec<Line> = Vec::new();
    for print in all {
        let (series, point) = (series(print), (f64::from(print.nodes), print.connections));
        match lines_of.iter_mut().find(|line| line.series == series) {
            Some(line) => line.points.push(point),
            None => lines_of.push(Line { series, points: vec![point] }),
        }
    }
    let title = "TCP connections of all processes";
    Section {
        title: "Sockets, connections, threads, memory".to_owned(),
        text: format!(
            "Every node has a daemon and a server with 8 workers. A client at one node calls all servers in turn: with \
             one thread or eight threads that wait for their answers, or with one thread that has eight calls in flight \
             (`call_async`). The tables show the largest values seen during the calls. For all processes together: the \
             median (smallest .. largest) over the rounds. For one kind of process: the same over its processes and \
             rounds. A socket is a file descriptor of the kernel; libzmq needs some for itself.\n\n\
             `rpc_conn_pool_size` is 500, so that no connection is closed to stay within it. A blocking call has its \
             own connection, and connections that were open at the same time stay open for a minute. \"Small pool\" is \
             the number of nodes and {SPARE} more: zmqv2 then closes the connections above it after a call, the longest \
             unused first. The legacy driver applies this option to each address, so a small pool changes nothing there. \
             Its calls pause for 3 ms first, because without the pause most of its replies would be lost. So its rate \
             cannot be compared with the others."
        ),
        tables: vec![connections, table],
        plots: vec![Plot {
            name: "connections".to_owned(),
            alt: format!("{title} by number of nodes, for both drivers"),
            svg: lines(title, "connections", "nodes", &lines_of, Scale::Log),
        }],
        data: serde_json::to_value(all).unwrap_or_default(),
    }
}

type Column = fn(&MessageCounts) -> f64;

/// The columns of the table of faults.
const COLUMNS: [(&str, Column); 8] = [
    ("sent", |counts| counts.sent as f64),
    ("ran or answered", |counts| counts.done as f64),
    ("sender was told", |counts| counts.reported as f64),
    ("acked, then its server died", |counts| counts.lost_with_server as f64),
    ("lost in silence", |counts| counts.lost_silently as f64),
    ("ran twice", |counts| counts.ran_again as f64),
    ("ran, answer unused", |counts| counts.answer_unused as f64),
    ("longest wait without answer, ms", |counts| counts.worst_wait_ms),
];

fn losses(all: &[FaultResult]) -> Section {
    let mut head = vec!["fault", "driver"];
    head.extend(COLUMNS.iter().map(|(name, _)| *name));
    let mut table = Table::new(head);
    let mut bars_of = Vec::new();
    for fault in all {
        for (index, (variant, runs)) in fault.variants.iter().enumerate() {
            let mut row = vec![fault.name.to_owned(), variant.clone()];
            row.extend(COLUMNS.iter().map(|(_, column)| shown(fault.spread(index, *column))));
            table.row(row);
            let share: Vec<f64> =
                runs.iter().map(|counts| counts.lost_silently as f64 / (counts.sent as f64).max(1.0) * 100.0).collect();
            if let Some(spread) = Spread::of(&share) {
                bars_of.push(Bar { group: fault.name.to_owned(), series: variant.clone(), spread });
            }
        }
    }
    let list: Vec<String> = FAULTS.iter().map(|fault| format!("{}: {}.", fault.name, fault.what)).collect();
    Section {
        title: "What is lost".to_owned(),
        text: format!(
            "Every message is counted once. Either it ran (a call: was answered). Or it did not run, and its sender \
             was told so, or was told that this is unknown. Or it was acknowledged and its server died before it ran: a \
             worker acknowledges a message before the handler runs, so a killed server loses at most one message for \
             each of its workers. Or it was lost in silence: its sender was told nothing, or the opposite. A call that \
             ends only by its timeout counts as lost in silence. \"Ran, answer unused\" counts calls that ran after \
             their caller had given up, or whose answer was lost.\n\nThe faults:\n\n{}",
            list.join("\n\n")
        ),
        tables: vec![table],
        plots: vec![Plot {
            name: "lost".to_owned(),
            alt: "share of messages lost in silence under each fault, for both drivers".to_owned(),
            svg: bars("Lost in silence", "% of messages", &bars_of, Scale::Linear),
        }],
        data: serde_json::to_value(all).unwrap_or_default(),
    }
}

/// Selects the items to add up.
type Which = fn(&Lines) -> bool;

pub(super) fn code(counted: &Counted) -> Section {
    let both = [(Variant::Legacy, &counted.legacy), (Variant::Zmqv2, &counted.zmqv2)];
    let mut sums = Table::new(["lines of code", "legacy", "zmqv2"]);
    let purposes: [(&str, Which); 5] = [
        ("the way back: addresses, carrying, waiting", |item| item.purpose == Purpose::Way),
        ("the body: a result or an error", |item| item.purpose == Purpose::Body),
        ("checks: that it answers this call, is whole and within limits", |item| item.purpose == Purpose::Checks),
        ("all", |_| true),
        ("of these, what acknowledgements use as well", |item| item.for_acks),
    ];
    for (name, which) in purposes {
        let [legacy, ours] = both.map(|(_, lines)| total(lines, which).to_string());
        sums.row([name.to_owned(), legacy, ours]);
    }
    let mut items = Table::new(["item", "driver", "lines"]);
    for (driver, lines) in both {
        for Lines { item, lines, .. } in lines {
            items.row([item.clone(), driver.to_string(), lines.to_string()]);
        }
    }
    Section {
        title: "Code for replies".to_owned(),
        text: "Every line counts that is neither empty nor a comment. An item (a function, a type, the methods of a type) \
               counts as a whole if it exists because a call is answered: it makes the answer, stores its destination, \
               carries it, waits for it, reads it or checks it. It counts even if acknowledgements use it as well. An \
               item that also handles requests counts in neither driver (the public verbs, forwarding, sockets). What \
               only zmqv2 can do with answers does not count either (`call_async`, answers kept for a retry). A test \
               finds every line of both drivers that has to do with replies, and compares them with these \
               lists. The lines are those of the current sources, even if the rest was measured earlier.\n\nThe legacy driver has no checks: a malformed answer ends the call with the first exception \
               that it causes, and nobody notices an answer that never arrives. The waiting code of zmqv2 also notices \
               that the broker is gone, and monitors long calls."
            .to_owned(),
        tables: vec![sums, items],
        data: serde_json::to_value(counted).unwrap_or_default(),
        ..Section::default()
    }
}
