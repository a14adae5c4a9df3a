//! Compares zmqv2 with the legacy driver in one run, and writes a report.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use zmqv2_broker::cli::{Failure, finish};
use zmqv2_tests::compare::{Plan, compare, write_numbers_page};

/// Measures both drivers in alternation, and writes report.html, report.md and report.json.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only enough to see that everything works; the numbers say little
    #[arg(long)]
    quick: bool,
    /// Directory of the report
    #[arg(long, value_name = "DIR", default_value = "target/compare")]
    out: PathBuf,
    /// Also write comparison-numbers.md and its plots into this directory
    #[arg(long, value_name = "DIR")]
    docs: Option<PathBuf>,
}

fn main() -> ExitCode {
    finish(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let plan = if arguments.quick { Plan::quick() } else { Plan::full() };
    let flag = if arguments.quick { " -- --quick" } else { "" };
    let report = compare(&plan, &format!("cargo run --release -p zmqv2-tests --bin compare{flag}"))?;
    report.write(&arguments.out)?;
    if let Some(docs) = &arguments.docs {
        write_numbers_page(&report, docs)?;
    }
    for section in report.sections.iter().take(1) {
        println!("{}", section.markdown(None).trim());
    }
    println!("\n{}", arguments.out.join("report.html").display());
    Ok(())
}
