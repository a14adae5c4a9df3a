//! Those who are not always there: the legacy driver, and other messaging systems behind the feature `peers`.

use clap::Subcommand;
use zmqv2_broker::cli::Failure;

use crate::chain::Chain;
use crate::rows::System;
use crate::workload::Workload;

/// Who is there.
pub(crate) struct Peers {
    missing: Vec<(System, String)>,
}

/// Their processes.
#[derive(Debug, Subcommand)]
pub(crate) enum Part {}

impl Part {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        match *self {}
    }
}

impl Peers {
    /// Looks who is there; a quick run asks nobody.
    pub(crate) fn find(quick: bool) -> Self {
        let why = if quick { "a quick run asks nobody else" } else { "this build has no feature `peers`" };
        let missing = [System::Legacy, System::Nats, System::Rabbit, System::Grpc];
        Self { missing: missing.map(|system| (system, why.to_owned())).into() }
    }

    /// Why a system is left out, if it is.
    pub(crate) fn missing(&self, system: System) -> Option<&str> {
        self.missing.iter().find(|(missing, _)| *missing == system).map(|(_, why)| why.as_str())
    }

    /// A line for each system that is left out.
    pub(crate) fn told(&self) -> Vec<String> {
        self.missing.iter().map(|(system, why)| format!("SKIPPED {}: {why}", system.name())).collect()
    }

    pub(crate) fn start(&self, system: System, _load: &Workload) -> anyhow::Result<Chain> {
        anyhow::bail!("{} is not there", system.name())
    }
}
