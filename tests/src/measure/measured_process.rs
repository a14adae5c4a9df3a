//! Sends for a given time and counts: the work of a measured process.
//!
//! It uses only the standard library. The package `tests/raw`, which does not depend on this
//! workspace, includes this file, so that the same code measures both sides of a comparison.
//!
//! The protocol of a measured process: it prints `ready`. A line on its standard input says for how
//! many seconds it sends. It prints its [`Measurement`] as a line of JSON. It ends when its
//! standard input ends.

use std::fmt;
use std::io::{BufRead, Write};
use std::sync::Barrier;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

/// The error of a measurement.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The result of a measurement.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Measurement {
    /// Messages that succeeded.
    pub messages: u64,
    /// From the first message to the end of the last one.
    pub seconds: f64,
    /// The median latency in microseconds, if each message was timed.
    pub p50_us: Option<f64>,
    /// The latency that 99 of 100 messages did not exceed, in microseconds.
    pub p99_us: Option<f64>,
}

/// As JSON.
impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: Option<f64>| value.map_or_else(|| "null".to_owned(), |value| format!("{value:.1}"));
        write!(
            f,
            r#"{{"messages":{},"seconds":{:.6},"p50_us":{},"p99_us":{}}}"#,
            self.messages,
            self.seconds,
            number(self.p50_us),
            number(self.p99_us)
        )
    }
}

/// Prints `ready`, and blocks until its standard input ends. A server does no more than this.
pub fn serve_until_stdin_ends() -> Result<(), Error> {
    print_line("ready")?;
    std::io::stdin().lock().lines().for_each(drop);
    Ok(())
}

/// Warms up, prints `ready`, and measures once for as long as the next line says. `run` does both.
pub fn measure(warm_up: Duration, mut run: impl FnMut(Duration) -> Result<Measurement, Error>) -> Result<(), Error> {
    run(warm_up)?;
    print_line("ready")?;
    let mut lines = std::io::stdin().lock().lines();
    if let Some(line) = lines.next() {
        let seconds: f64 = line?.trim().parse()?;
        print_line(&run(Duration::try_from_secs_f64(seconds)?)?.to_string())?;
    }
    lines.for_each(drop);
    Ok(())
}

fn print_line(line: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Lets each of the `senders` send one message at a time, on its own thread, until `span` has
/// passed.
pub fn one_by_one<S: FnMut() -> Result<(), Error> + Send>(
    senders: &mut [S],
    span: Duration,
) -> Result<Measurement, Error> {
    let start = Barrier::new(senders.len());
    let parts = std::thread::scope(|scope| {
        let one = |sender: &mut S| {
            start.wait();
            let (began, mut nanos) = (now(), Vec::new());
            let mut at = began;
            while at < began + span {
                sender()?;
                let end = now();
                nanos.push(u32::try_from((end - at).as_nanos()).unwrap_or(u32::MAX));
                at = end;
            }
            Ok((began, at, nanos))
        };
        let threads: Vec<_> = senders.iter_mut().map(|sender| scope.spawn(move || one(sender))).collect();
        let join = |thread: ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(|_| Err("a sender panicked".into()));
        threads.into_iter().map(join).collect::<Result<Vec<(Instant, Instant, Vec<u32>)>, Error>>()
    })?;
    let began = parts.iter().map(|part| part.0).min();
    let ended = parts.iter().map(|part| part.1).max();
    let seconds = began.zip(ended).map_or(0.0, |(began, ended)| (ended - began).as_secs_f64());
    Ok(timed(seconds, parts.into_iter().flat_map(|part| part.2).collect()))
}

/// The measurement of messages that took these times.
#[must_use]
pub fn timed(seconds: f64, mut nanos: Vec<u32>) -> Measurement {
    nanos.sort_unstable();
    let at = |share: usize| nanos.get((nanos.len() * share / 100).min(nanos.len().saturating_sub(1)));
    let micros = |share| at(share).map(|nanos| f64::from(*nanos) / 1e3);
    Measurement { messages: nanos.len() as u64, seconds, p50_us: micros(50), p99_us: micros(99) }
}

/// A sender with many messages in flight.
pub trait Window {
    /// Sends one.
    fn send(&mut self) -> Result<(), Error>;

    /// Waits until at least one of them has succeeded, and returns how many have. Fails if one has
    /// failed.
    fn settle(&mut self) -> Result<usize, Error>;
}

/// Keeps `size` messages in flight until `span` has passed, and waits for the rest.
pub fn windowed(window: &mut impl Window, size: usize, span: Duration) -> Result<Measurement, Error> {
    let (began, mut messages, mut open) = (now(), 0, 0);
    while now() < began + span {
        while open < size {
            window.send()?;
            open += 1;
        }
        let settled = window.settle()?;
        open -= settled;
        messages += settled as u64;
    }
    while open > 0 {
        let settled = window.settle()?;
        open -= settled;
        messages += settled as u64;
    }
    Ok(Measurement { messages, seconds: (now() - began).as_secs_f64(), ..Measurement::default() })
}

/// The clock of measured processes.
#[expect(clippy::disallowed_methods, reason = "this measures real time")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_is_json() {
        let measurement = Measurement { messages: 3, seconds: 1.5, p50_us: Some(2.04), p99_us: None };
        assert_eq!(measurement.to_string(), r#"{"messages":3,"seconds":1.500000,"p50_us":2.0,"p99_us":null}"#);
    }

    #[test]
    fn latencies_are_taken_by_rank() {
        let measurement = timed(2.0, (1..=100).rev().map(|n| n * 1_000).collect());
        assert_eq!((measurement.messages, measurement.p50_us, measurement.p99_us), (100, Some(51.0), Some(100.0)));
        assert_eq!(timed(0.0, Vec::new()).p50_us, None);
    }

    #[test]
    fn all_senders_send_and_an_error_ends_the_run() {
        let mut counts = [0_u64; 3];
        let mut senders: Vec<_> = counts
            .iter_mut()
            .map(|count| {
                move || {
                    *count += 1;
                    Ok(())
                }
            })
            .collect();
        let measurement = one_by_one(&mut senders, Duration::from_millis(1)).unwrap();
        drop(senders);
        assert!(counts.iter().all(|count| *count > 0));
        assert_eq!(measurement.messages, counts.iter().sum::<u64>());
        let error = one_by_one(&mut [|| Err("lost".into())], Duration::from_secs(60)).unwrap_err();
        assert_eq!(error.to_string(), "lost");
    }

    /// Settles half of the open messages.
    struct Half {
        open: usize,
        most: usize,
    }

    impl Window for Half {
        fn send(&mut self) -> Result<(), Error> {
            self.open += 1;
            self.most = self.most.max(self.open);
            Ok(())
        }

        fn settle(&mut self) -> Result<usize, Error> {
            let settled = self.open.div_ceil(2);
            self.open -= settled;
            Ok(settled)
        }
    }

    #[test]
    fn a_window_is_filled_never_exceeded_and_emptied() {
        let mut half = Half { open: 0, most: 0 };
        let measurement = windowed(&mut half, 10, Duration::from_millis(1)).unwrap();
        assert_eq!((half.open, half.most), (0, 10));
        assert!(measurement.messages >= 10 && measurement.seconds > 0.0);
    }
}
