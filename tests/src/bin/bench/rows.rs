//! The rows of the benchmark: contenders, loads and goals.

use crate::chain::{P50, RATE};
use crate::workload::{Pattern, Workload};

/// The systems that are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    Ours,
    Raw,
    Legacy,
    Nats,
    Rabbit,
    Grpc,
}

impl System {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "zmqv2",
            Self::Raw => "raw libzmq",
            Self::Legacy => "legacy",
            Self::Nats => "NATS",
            Self::Rabbit => "RabbitMQ",
            Self::Grpc => "gRPC",
        }
    }
}

/// One contender of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ContenderSpec {
    pub(crate) name: String,
    pub(crate) system: System,
    pub(crate) load: Workload,
}

/// A bound for a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    pub(crate) fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }
}

/// A goal of a row, for a ratio against another contender or for a value of zmqv2.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Goal {
    /// The measured figure.
    pub(crate) figure: &'static str,
    /// The other contender; `None`: the value counts as it is.
    pub(crate) against: Option<String>,
    pub(crate) bound: Bound,
}

/// How a row is measured.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// Contenders under load.
    Load(Vec<ContenderSpec>),
    /// A broker with this many silent clients.
    Idle(usize),
    /// A server that dies with this many calls outstanding.
    Death(usize),
}

/// One row of the report.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) title: String,
    /// The figure that is compared; others are shown beside it.
    pub(crate) figure: &'static str,
    pub(crate) kind: Kind,
    pub(crate) goals: Vec<Goal>,
}

/// Figures that are measured without load.
pub(crate) const IDLE_CPU: &str = "broker CPU, idle";
pub(crate) const PER_CONNECTION: &str = "broker memory per connection";
pub(crate) const ANSWERED: &str = "answered";
pub(crate) const LOST: &str = "ServerLost";
pub(crate) const OTHER: &str = "other ends";
pub(crate) const BEYOND: &str = "ServerLost beyond what was in flight";

struct Against(System, Option<Bound>);

impl Row {
    fn load(id: &str, title: &str, figure: &'static str, load: Workload, others: &[Against]) -> Self {
        let contender = |system: System| ContenderSpec { name: system.name().to_owned(), system, load };
        let systems = [System::Ours].into_iter().chain(others.iter().map(|other| other.0));
        let goal = |other: &Against| Some(Goal { figure, against: Some(other.0.name().to_owned()), bound: other.1? });
        Self {
            id: id.to_owned(),
            title: title.to_owned(),
            figure,
            kind: Kind::Load(systems.map(contender).collect()),
            goals: others.iter().filter_map(goal).collect(),
        }
    }

    /// zmqv2 under one load, against zmqv2 under another.
    fn own(id: &str, title: &str, figure: &'static str, loads: [(&str, Workload); 2], bound: Bound) -> Self {
        let contender =
            |(name, load): (&str, Workload)| ContenderSpec { name: name.to_owned(), system: System::Ours, load };
        Self {
            id: id.to_owned(),
            title: title.to_owned(),
            figure,
            goals: vec![Goal { figure, against: Some(loads[1].0.to_owned()), bound }],
            kind: Kind::Load(loads.map(contender).into()),
        }
    }

    fn absolute(id: &str, title: &str, figure: &'static str, kind: Kind, goals: &[(&'static str, Bound)]) -> Self {
        let goal = |(figure, bound): &(&'static str, Bound)| Goal { figure, against: None, bound: *bound };
        let goals = goals.iter().map(goal).collect();
        Self { id: id.to_owned(), title: title.to_owned(), figure, kind, goals }
    }
}

/// Every row, in the order of the report.
pub(crate) fn all() -> Vec<Row> {
    use Bound::{AtLeast, AtMost};
    use Pattern::{Call, Cast, Fanout, Later};
    use System::{Grpc, Legacy, Nats, Rabbit, Raw};
    const KIB: usize = 1024;
    let load = Workload::new;
    let raw = |bound| Against(Raw, bound);
    let legacy = || Against(Legacy, Some(AtLeast(3.0)));
    let mut rows = vec![
        Row::load(
            "call-1-128",
            "CALL in sequence, 128 B",
            P50,
            load(Call, 1, 128),
            &[
                raw(Some(AtMost(0.95))),
                Against(Nats, Some(AtMost(1.0))),
                Against(Grpc, None),
                Against(Rabbit, None),
                // Three times the rate is a third of the latency.
                Against(Legacy, Some(AtMost(1.0 / 3.0))),
            ],
        ),
        Row::load("call-1-1k", "CALL in sequence, 1 KiB", P50, load(Call, 1, KIB), &[raw(None), Against(Nats, None)]),
        Row::load("call-1-64k", "CALL in sequence, 64 KiB", P50, load(Call, 1, 64 * KIB), &[raw(None)]),
        Row::load("call-8-128", "CALL by 8 threads, 128 B", RATE, load(Call, 8, 128), &[raw(None), legacy()]),
        Row::load(
            "call-64-128",
            "CALL by 64 threads, 128 B",
            RATE,
            load(Call, 64, 128),
            &[raw(Some(AtLeast(1.3))), legacy()],
        ),
        Row::load("call-64-1k", "CALL by 64 threads, 1 KiB", RATE, load(Call, 64, KIB), &[raw(None)]),
        Row::load("call-64-64k", "CALL by 64 threads, 64 KiB", RATE, load(Call, 64, 64 * KIB), &[raw(None)]),
        Row::load(
            "later-64-128",
            "call_async, 64 outstanding, 128 B",
            RATE,
            load(Later, 64, 128),
            &[raw(None), Against(Nats, Some(AtLeast(1.0))), Against(Grpc, None), Against(Rabbit, Some(AtLeast(8.0)))],
        ),
        Row::load(
            "later-64-1k",
            "call_async, 64 outstanding, 1 KiB",
            RATE,
            load(Later, 64, KIB),
            &[raw(None), Against(Nats, None), Against(Grpc, None), Against(Rabbit, Some(AtLeast(8.0)))],
        ),
        Row::load(
            "later-64-64k",
            "call_async, 64 outstanding, 64 KiB",
            RATE,
            load(Later, 64, 64 * KIB),
            &[raw(Some(AtLeast(1.0))), Against(Nats, None), Against(Grpc, None), Against(Rabbit, None)],
        ),
        Row::load(
            "later-1000-128",
            "call_async, 1,000 outstanding, 128 B",
            RATE,
            load(Later, 1_000, 128),
            &[raw(Some(AtLeast(0.9))), Against(Nats, Some(AtLeast(1.5))), Against(Grpc, None), Against(Rabbit, None)],
        ),
        Row::load("later-1000-1k", "call_async, 1,000 outstanding, 1 KiB", RATE, load(Later, 1_000, KIB), &[raw(None)]),
    ];
    for (name, size, text, bound) in [
        ("128", 128, "128 B", Some(AtLeast(0.9))),
        ("1k", KIB, "1 KiB", Some(AtLeast(1.5))),
        ("64k", 64 * KIB, "64 KiB", None),
    ] {
        let title = format!("CAST with acks, window 1,000, {text}");
        rows.push(Row::load(&format!("cast-1000-{name}"), &title, RATE, load(Cast, 1_000, size), &[raw(bound)]));
    }
    for servers in [8, 32] {
        let title = format!("FANOUT to {servers} servers, 16 outstanding, 128 B");
        let load = load(Fanout, 16, 128).with_servers(servers);
        rows.push(Row::load(&format!("fanout-{servers}"), &title, RATE, load, &[raw(None)]));
    }
    for (name, load, figure, bound, text) in [
        ("call", load(Call, 1, 128), P50, AtMost(1.1), "CALL in sequence"),
        // The rate falls as the time of a message grows.
        ("later", load(Later, 64, 128), RATE, AtLeast(1.0 / 1.1), "call_async, 64 outstanding"),
    ] {
        for (spread, called, how) in [("one", 1, "one of them called"), ("all", 500, "all called in turn")] {
            let loads = [("500 topics", load.with_topics(500, called)), ("1 topic", load.with_topics(2, 1))];
            let title = format!("500 topics, {how}: {text}");
            rows.push(Row::own(&format!("topics-{name}-{spread}"), &title, figure, loads, bound));
        }
    }
    for connected in [1_000, 5_000] {
        let load = load(Call, 1, 128);
        let loads = [("with them", load.with_connected(connected)), ("alone", load)];
        let title = format!("CALL in sequence beside {connected} connected clients");
        rows.push(Row::own(&format!("beside-{connected}"), &title, P50, loads, AtMost(1.1)));
        let goals = [(IDLE_CPU, AtMost(0.5)), (PER_CONNECTION, AtMost(32.0))];
        let title = format!("broker with {connected} idle connections");
        rows.push(Row::absolute(&format!("idle-{connected}"), &title, IDLE_CPU, Kind::Idle(connected), &goals));
    }
    let goals = [(OTHER, AtMost(0.0)), (BEYOND, AtMost(0.0))];
    rows.push(Row::absolute(
        "death",
        "one of two servers killed with 10,000 calls outstanding",
        LOST,
        Kind::Death(10_000),
        &goals,
    ));
    rows
}

/// One row of each shape, to see that everything works.
pub(crate) fn quick() -> Vec<Row> {
    const SHAPES: [&str; 6] =
        ["call-1-128", "call-8-128", "later-64-1k", "cast-1000-128", "fanout-8", "topics-call-one"];
    let mut rows: Vec<Row> = all().into_iter().filter(|row| SHAPES.contains(&row.id.as_str())).collect();
    for row in &mut rows {
        if let Kind::Load(contenders) = &mut row.kind {
            for contender in contenders {
                contender.load.topics = contender.load.topics.min(20);
            }
        }
    }
    let absolute = |id: &str, kind| all().into_iter().find(|row| row.id == id).map(|row| Row { kind, ..row });
    rows.extend(absolute("idle-1000", Kind::Idle(20)));
    rows.extend(absolute("death", Kind::Death(500)));
    rows
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_have_names_of_their_own_and_goals_speak_of_contestants() {
        for rows in [all(), quick()] {
            let ids: BTreeSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
            assert_eq!(ids.len(), rows.len());
            for row in &rows {
                for goal in &row.goals {
                    let Kind::Load(contenders) = &row.kind else {
                        assert_eq!(goal.against, None, "{}", row.id);
                        continue;
                    };
                    let names: Vec<&str> = contenders[1..].iter().map(|other| other.name.as_str()).collect();
                    assert!(names.contains(&goal.against.as_deref().unwrap()), "{}: {goal:?}", row.id);
                    assert_eq!(goal.figure, row.figure);
                }
            }
        }
    }

    #[test]
    fn a_bound_holds_on_its_side() {
        assert!(Bound::AtMost(1.0).is_met(1.0) && !Bound::AtMost(1.0).is_met(1.01));
        assert!(Bound::AtLeast(1.0).is_met(1.0) && !Bound::AtLeast(1.0).is_met(0.99));
        assert!(!Bound::AtMost(1.0).is_met(f64::NAN) && !Bound::AtLeast(1.0).is_met(f64::NAN));
    }
}
