//! Measures a row: its contenders in turns, or its idle broker, or its server's death.

use std::time::Duration;

use anyhow::Context;
use zmqv2_tests::measure::{Contender, Measured, Progress, Sample, alternate};
use zmqv2_tests::{now, wait_until};

use crate::chain::Chain;
use crate::peers::Peers;
use crate::process::{cpu_seconds, memory_kib};
use crate::row_result::RowResult;
use crate::rows::{ANSWERED, BEYOND, ContenderSpec, IDLE_CPU, Kind, LOST, OTHER, PER_CONNECTION, Row, System};
use crate::workload::Workload;
use crate::{raw, zmqv2};

/// The duration and the number of measurements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) rounds: usize,
    pub(crate) span: Duration,
    /// The duration for an idle broker.
    pub(crate) idle: Duration,
    /// Workers of a zmqv2 server; `None`: the default of the option.
    pub(crate) workers: Option<usize>,
}

/// The number of steps of a row.
pub(crate) fn steps(row: &Row, pace: Pace, peers: &Peers) -> usize {
    match &row.kind {
        Kind::Load(contenders) => {
            contenders.iter().filter(|contender| peers.missing(contender.system).is_none()).count() * pace.rounds
        }
        Kind::Idle(_) => 2 * pace.rounds,
        Kind::Death(_) => pace.rounds,
    }
}

/// Measures a row. Missing contenders are left out.
pub(crate) fn measure(row: Row, pace: Pace, peers: &Peers, progress: &mut Progress) -> anyhow::Result<RowResult> {
    let mut contenders: Vec<Contender<'_, anyhow::Error>> = match &row.kind {
        Kind::Load(contenders) => contenders
            .iter()
            .filter(|contender| peers.missing(contender.system).is_none())
            .map(|contender| Contender::new(&contender.name, move || load(contender, pace, peers)))
            .collect(),
        Kind::Idle(count) => vec![
            Contender::new(System::Ours.name(), move || idle(*count, pace)),
            Contender::new(System::Raw.name(), move || idle_raw(*count, pace)),
        ],
        Kind::Death(count) => vec![Contender::new(System::Ours.name(), move || death(*count, pace))],
    };
    let measured: Measured = alternate(pace.rounds, &row.id, &mut contenders, progress)
        .with_context(|| format!("row {} cannot be measured", row.id))?;
    drop(contenders);
    peers.stop_idle();
    Ok(RowResult { row, measured })
}

fn load(contender: &ContenderSpec, pace: Pace, peers: &Peers) -> anyhow::Result<Vec<Sample>> {
    let chain = start(contender.system, &contender.load, pace, peers);
    chain.and_then(|chain| chain.measure(pace.span)).with_context(|| format!("{} fails", contender.name))
}

fn start(system: System, load: &Workload, pace: Pace, peers: &Peers) -> anyhow::Result<Chain> {
    match system {
        System::Ours => zmqv2::start(load, pace.workers),
        System::Raw => raw::start(load),
        System::Legacy | System::Nats | System::Rabbit | System::Grpc => peers.start(system, load),
    }
}

/// The cost of an idle broker.
fn idle_cost<T>(
    broker: u32,
    pace: Pace,
    count: usize,
    hold: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<Vec<Sample>> {
    let empty = memory_kib(broker)?;
    let holder = hold()?;
    let held = memory_kib(broker)?;
    let (before, began) = (cpu_seconds(broker)?, now());
    wait_until(began + pace.idle);
    let share = (cpu_seconds(broker)? - before) / began.elapsed().as_secs_f64();
    drop(holder);
    Ok(vec![
        Sample::new(IDLE_CPU, "%", share * 100.0),
        Sample::new(PER_CONNECTION, "KiB", (held - empty) / count as f64),
    ])
}

fn idle(count: usize, pace: Pace) -> anyhow::Result<Vec<Sample>> {
    // A chain without load. Its broker has already served a client.
    let site = zmqv2::Site::new(1);
    let broker = site.service().broker();
    let _server = crate::process::MeasuredProcess::start("a server", &mut site.server(0, 1, pace.workers))?;
    drop(zmqv2::hold(&site, 1)?);
    idle_cost(broker.id(), pace, count, || zmqv2::hold(&site, count))
}

/// `zmq_proxy` also gets a server, because without one it uses a whole core.
fn idle_raw(count: usize, pace: Pace) -> anyhow::Result<Vec<Sample>> {
    let site = raw::Site::start(1, "echo")?;
    drop(site.hold(1)?);
    idle_cost(site.proxy.id(), pace, count, || site.hold(count))
}

fn death(count: usize, pace: Pace) -> anyhow::Result<Vec<Sample>> {
    let [answered, lost, other, in_flight] = zmqv2::kill_one(count, pace.workers)?;
    Ok(vec![
        Sample::new(ANSWERED, "calls", answered),
        Sample::new(LOST, "calls", lost),
        Sample::new(OTHER, "calls", other),
        Sample::new(BEYOND, "calls", (lost - in_flight).max(0.0)),
    ])
}
