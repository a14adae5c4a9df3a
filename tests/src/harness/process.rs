//! A child process that never outlives its test. It can be signalled, and its output is kept and
//! can be waited for.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{PATIENCE, eventually, now};

#[derive(Debug, Default)]
struct Printed {
    /// The lines so far, and whether the output has ended.
    lines: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

impl Printed {
    /// Collects the lines of a pipe.
    fn of(pipe: impl Read + Send + 'static) -> Arc<Self> {
        let printed = Arc::new(Self::default());
        let keep = Arc::clone(&printed);
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                keep.lines.lock().expect("no panic in here").0.push(line);
                keep.changed.notify_all();
            }
            keep.lines.lock().expect("no panic in here").1 = true;
            keep.changed.notify_all();
        });
        printed
    }

    /// Waits until the output has ended, or until `end_at`.
    fn wait_for_end(&self, end_at: Instant) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        while !lines.1 && now() < end_at {
            let left = end_at.saturating_duration_since(now());
            lines = self.changed.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until `met` finds something in the lines. Its second argument says whether the output
    /// has ended.
    fn wait<T>(&self, what: &str, mut met: impl FnMut(&[String], bool) -> Option<T>) -> T {
        let end_at = now() + PATIENCE;
        let mut lines = self.lines.lock().expect("no panic in here");
        loop {
            if let Some(found) = met(&lines.0, lines.1) {
                return found;
            }
            let left = end_at.saturating_duration_since(now());
            assert!(!left.is_zero() && !lines.1, "waited for {what}, which printed:\n{}", lines.0.join("\n"));
            lines = self.changed.wait_timeout(lines, left).expect("no panic in here").0;
        }
    }
}

#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stderr: Arc<Printed>,
    stdout: Arc<Printed>,
}

#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// The exit code; -1 after a signal.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }
}

impl Process {
    /// Starts `command` and keeps its output.
    #[must_use]
    pub fn start(name: &str, command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let stderr = Printed::of(child.stderr.take().expect("a pipe"));
        let stdout = Printed::of(child.stdout.take().expect("a pipe"));
        Self { name: name.to_owned(), child, stderr, stdout }
    }

    /// Runs `command` to its end and keeps its output.
    pub fn run(command: &mut Command) -> Finished {
        let shown = format!("{command:?}");
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
        let collect = |mut pipe: Box<dyn Read + Send>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                let _ = pipe.read_to_end(&mut bytes);
                String::from_utf8_lossy(&bytes).into_owned()
            })
        };
        let stdout = collect(Box::new(child.stdout.take().expect("a pipe")));
        let stderr = collect(Box::new(child.stderr.take().expect("a pipe")));
        let status = wait(&mut child, PATIENCE).unwrap_or_else(|| panic!("{shown} did not end within {PATIENCE:?}"));
        let text = |reader: std::thread::JoinHandle<String>| reader.join().expect("a reader");
        Finished { status, stdout: text(stdout), stderr: text(stderr) }
    }

    /// Waits for a line on stderr that starts with `start` and returns it.
    pub fn wait_for_line(&self, start: &str) -> String {
        self.stderr.wait(&format!("{} with {start:?}", self.name), |lines, _| {
            lines.iter().find(|line| line.starts_with(start)).cloned()
        })
    }

    /// Waits until the process has printed `count` lines on stdout, and returns all lines so far.
    pub fn wait_for_output(&self, count: usize) -> Vec<String> {
        let what = format!("{} with {count} lines", self.name);
        self.stdout.wait(&what, |lines, _| (lines.len() >= count).then(|| lines.to_vec()))
    }

    /// Waits for the end of stdout, and returns all of it.
    pub fn stdout_to_end(&self) -> String {
        let what = format!("the end of {}", self.name);
        self.stdout.wait(&what, |lines, ended| ended.then(|| lines.join("\n")))
    }

    /// Waits for a line on stderr that starts with `ready`.
    #[must_use]
    pub fn ready(self) -> Self {
        self.wait_for_line("ready");
        self
    }

    /// The lines that the process has printed on stderr so far.
    pub fn stderr(&self) -> String {
        // A failed wait panics while it holds the lock, and a test that unwinds asks for these
        // lines.
        self.stderr.lines.lock().unwrap_or_else(PoisonError::into_inner).0.join("\n")
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal. When it is `STOP`, every thread has stopped when this returns.
    pub fn signal(&self, signal: Signal) {
        let sent = kill_process(Pid::from_child(&self.child), signal);
        assert!(sent.is_ok(), "{} is gone: {sent:?}; it printed:\n{}", self.name, self.stderr());
        if signal == Signal::STOP {
            // The kernel stops one thread after the other, and threads that still run still answer.
            eventually(&format!("{} has stopped", self.name), || self.threads_are_stopped());
        }
    }

    fn threads_are_stopped(&self) -> bool {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.id())) else { return false };
        let mut stats = threads.flatten().map(|thread| std::fs::read_to_string(thread.path().join("stat")));
        // The state follows the name, which is in parentheses and may contain anything.
        stats.all(|stat| stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))))
    }

    /// `kill -9`, and waits until the process is gone.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.read_to_end();
    }

    /// Waits until the process has ended and its output has been read.
    pub fn wait_end(&mut self, timeout: Duration) -> ExitStatus {
        let status = wait(&mut self.child, timeout)
            .unwrap_or_else(|| panic!("{} did not end within {timeout:?} but printed:\n{}", self.name, self.stderr()));
        self.read_to_end();
        status
    }

    /// Waits until the readers have seen the end of both outputs. The wait is bounded, because a child
    /// of the process that lives on may hold them open.
    fn read_to_end(&self) {
        let end_at = now() + Duration::from_secs(5);
        for printed in [&self.stderr, &self.stdout] {
            printed.wait_for_end(end_at);
        }
    }

    /// Seconds of processor time used so far (Linux).
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("a living process");
        // The fields follow the command's name, which may contain anything.
        let rest = stat.rsplit_once(')').expect("a name").1;
        let ticks: f64 =
            rest.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().expect("ticks")).sum();
        ticks / 100.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("--- {} printed:\n{}\n---", self.name, self.stderr());
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a bounded poll: the standard library has no wait with a timeout")]
fn wait(child: &mut Child, timeout: Duration) -> Option<ExitStatus> {
    let end_at = now() + timeout;
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return Some(status);
        }
        if now() >= end_at {
            let _ = child.kill();
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
