//! Measures several contenders in turns, and writes reports, for the programs `compare` and
//! `bench`.
//!
//! Machines drift by a quarter within minutes, so a single number says little. [`alternate()`]
//! measures all contenders in every round, in changing order. The result is the [`Ratio`] of values
//! of the same round. A [`Report`] names the [`Machine`], the commands and the noise of its
//! numbers. It is written as HTML (one file that loads nothing), Markdown and JSON. [`plot`] draws.

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
