//! The systems that may be missing: the legacy driver, and other messaging systems behind the
//! feature `peers`.

#[cfg(feature = "peers")]
mod async_callers;
#[cfg(feature = "peers")]
mod grpc;
mod legacy;
#[cfg(feature = "peers")]
mod nats;
#[cfg(feature = "peers")]
mod rabbit;

use clap::Subcommand;
use zmqv2_broker::cli::Failure;

use crate::chain::Chain;
use crate::rows::System;
use crate::workload::Workload;

/// The systems that are available.
pub(crate) struct Peers {
    missing: Vec<(System, String)>,
    #[cfg(feature = "peers")]
    rabbit: rabbit::KeptServer,
}

/// Their processes.
#[derive(Debug, Subcommand)]
pub(crate) enum Part {
    #[command(flatten)]
    Legacy(legacy::Part),
    #[cfg(feature = "peers")]
    #[command(flatten)]
    Nats(nats::Part),
    #[cfg(feature = "peers")]
    #[command(flatten)]
    Rabbit(rabbit::Part),
    #[cfg(feature = "peers")]
    #[command(flatten)]
    Grpc(grpc::Part),
}

impl Part {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let done = match self {
            Self::Legacy(part) => part.run(),
            #[cfg(feature = "peers")]
            Self::Nats(part) => part.run(),
            #[cfg(feature = "peers")]
            Self::Rabbit(part) => part.run(),
            #[cfg(feature = "peers")]
            Self::Grpc(part) => part.run(),
        };
        done.map_err(crate::zmqv2::failed)
    }
}

impl Peers {
    /// Finds the available systems. A quick run uses only those of this workspace.
    pub(crate) fn find(quick: bool) -> Self {
        let mut missing = Vec::new();
        if quick {
            let skipped = [System::Nats, System::Rabbit, System::Grpc];
            missing.extend(
                skipped.map(|system| (system, "a quick run asks only raw libzmq and the legacy driver".to_owned())),
            );
        } else {
            missing.extend(Self::not_found());
        }
        Self {
            missing,
            #[cfg(feature = "peers")]
            rabbit: rabbit::KeptServer::default(),
        }
    }

    #[cfg(feature = "peers")]
    fn not_found() -> Vec<(System, String)> {
        let programs = [(System::Nats, nats::SERVER), (System::Rabbit, rabbit::SERVER)];
        let absent = |(system, program): (System, &str)| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let found = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
            (!found).then(|| (system, format!("{program} is not installed")))
        };
        programs.into_iter().filter_map(absent).collect()
    }

    #[cfg(not(feature = "peers"))]
    fn not_found() -> Vec<(System, String)> {
        let why = "this build has no feature `peers` (cargo run --features peers)";
        [System::Nats, System::Rabbit, System::Grpc].map(|system| (system, why.to_owned())).into()
    }

    /// The reason why a system is left out, if it is.
    pub(crate) fn missing(&self, system: System) -> Option<&str> {
        self.missing.iter().find(|(missing, _)| *missing == system).map(|(_, why)| why.as_str())
    }

    /// A line for each system that is left out.
    pub(crate) fn skipped(&self) -> Vec<String> {
        self.missing.iter().map(|(system, why)| format!("SKIPPED {}: {why}", system.name())).collect()
    }

    pub(crate) fn start(&self, system: System, load: &Workload) -> anyhow::Result<Chain> {
        match system {
            System::Legacy => legacy::start(load),
            #[cfg(feature = "peers")]
            System::Nats => nats::start(load),
            #[cfg(feature = "peers")]
            System::Rabbit => self.rabbit.start(load),
            #[cfg(feature = "peers")]
            System::Grpc => grpc::start(load),
            _ => anyhow::bail!("{} is not there to send {load:?}", system.name()),
        }
    }

    /// Stops servers that were kept for a whole row because they start slowly.
    pub(crate) fn stop_idle(&self) {
        #[cfg(feature = "peers")]
        self.rabbit.stop();
    }
}
