//! Measuring several contenders in alternation, and reports of it: for the programs `compare` and `bench`.
//!
//! Machines drift by a quarter within minutes, so that a number alone says little. [`alternate()`] runs all contenders in every
//! round, in turning order; what counts is the [`Ratio`] of values of the same round. A [`Report`] says on which
//! [`Machine`], with which commands and with how much noise its numbers came about, as HTML (one file, nothing loaded from
//! anywhere), Markdown and JSON. [`plot`] draws.

mod alternate;
mod figure;
mod machine;
mod markup;
pub mod measured_process;
pub mod plot;
mod progress;
mod report;
mod statistics;

pub use alternate::{Contender, Measured, alternate, turns};
pub use figure::figure;
pub use machine::Machine;
pub use markup::well_formed;
pub use progress::Progress;
pub use report::{Plot, Report, Section, Table};
pub use statistics::{Ratio, Sample, Series, Spread, percentile};
