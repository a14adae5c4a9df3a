//! The signals that stop a program.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Calls `stop` for every SIGTERM or SIGINT, on a thread of its own.
///
/// # Errors
/// The operating system's reason.
pub fn on_stop_signal(mut stop: impl FnMut() + Send + 'static) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in &mut signals {
            log::info!("got signal {signal}");
            stop();
        }
    })?;
    Ok(())
}
