//! What the programs do at signals.
//!
//! SIGTERM and SIGINT stop a program. SIGHUP reads the configuration again, SIGUSR2 writes the state
//! to the log, and SIGUSR1 does nothing: none of them ends a program by accident.

use std::io;

use crossbeam_channel::Sender;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

/// Takes SIGHUP, SIGUSR1 and SIGUSR2 from the start of a program, so that they do not end it before
/// it is ready. Those that came earlier are handled when [`handle`](Self::handle) is called.
#[derive(Debug)]
pub struct SignalHandler(Signals);

/// A request that may wait for a disk or for the broker.
enum Slow {
    Reload,
    Report,
}

impl SignalHandler {
    /// # Errors
    /// The operating system's reason.
    pub fn install() -> io::Result<Self> {
        Signals::new([SIGHUP, SIGUSR1, SIGUSR2]).map(Self)
    }

    /// Calls `stop` for every SIGTERM and SIGINT, `reload` for SIGHUP and `report` for SIGUSR2, on
    /// threads of their own. However long `reload` and `report` take, `stop` does not wait.
    ///
    /// # Errors
    /// The operating system's reason.
    pub fn handle(
        self,
        mut stop: impl FnMut() + Send + 'static,
        mut reload: impl FnMut() + Send + 'static,
        mut report: impl FnMut() + Send + 'static,
    ) -> io::Result<()> {
        let mut signals = self.0;
        for signal in [SIGTERM, SIGINT] {
            signals.add_signal(signal)?;
        }
        // One may wait while another one runs. Further ones would do the same again.
        let (slow, requests) = crossbeam_channel::bounded(1);
        std::thread::Builder::new().name("reload".to_owned()).spawn(move || {
            for request in requests {
                match request {
                    Slow::Reload => reload(),
                    Slow::Report => report(),
                }
            }
        })?;
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in &mut signals {
                match signal {
                    SIGHUP => submit(&slow, Slow::Reload, "SIGHUP"),
                    SIGUSR2 => submit(&slow, Slow::Report, "SIGUSR2"),
                    SIGUSR1 => log::info!("got SIGUSR1, which has no meaning here"),
                    _ => {
                        log::info!("got signal {signal}");
                        stop();
                    }
                }
            }
        })?;
        Ok(())
    }
}

fn submit(slow: &Sender<Slow>, request: Slow, name: &str) {
    if slow.try_send(request).is_err() {
        log::warn!("got {name} while earlier signals were being handled; it is ignored");
    }
}

/// Calls `stop` for every SIGTERM or SIGINT, on a thread of its own. For programs that end soon.
///
/// # Errors
/// The operating system's reason.
pub fn on_stop_signal(mut stop: impl FnMut() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in &mut signals {
            log::info!("got signal {signal}");
            stop();
        }
    })?;
    Ok(())
}
