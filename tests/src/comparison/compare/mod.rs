//! The comparison of both drivers: the measurements of the program `compare`, and its report.
//!
//! Every driver runs in its own processes: a daemon for each node, and `compare-process` as server,
//! caller or sender of casts. Both drivers take turns in one run.

mod code;
mod faults;
mod footprint;
mod numbers_page;
mod plan;
mod process_output;
mod report;
mod speed;
mod testbed;

use anyhow::Result;

pub use code::{Counted, count};
pub use numbers_page::write_numbers_page;
pub use plan::Plan;
pub use process_output::{CallResults, CastResults, monotonic};
pub use testbed::{Testbed, Variant};

use crate::measure::{Machine, Progress, Report};

pub fn compare(plan: &Plan, command: &str) -> Result<Report> {
    // Builds the programs before the run starts.
    let _ = crate::binary("compare-process");
    let started = crate::now();
    let mut progress = Progress::new(plan.steps());
    let machine = Machine::here();
    let calls = speed::calls(plan, &mut progress)?;
    let casts = speed::casts(plan, &mut progress)?;
    let fanouts = speed::fanouts(plan, &mut progress)?;
    let footprint = footprint::measure(plan, &mut progress)?;
    let faults = faults::measure(plan, &mut progress)?;
    let code = count()?;
    progress.end();
    let measured = report::Everything { calls, casts, fanouts, footprint, faults, code };
    Ok(report::compose(&measured, plan, machine, command, started.elapsed()))
}
