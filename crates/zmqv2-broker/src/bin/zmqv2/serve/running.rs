//! Follows a running command: gives it its input, reads its output, and notices its end.

use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::serve::now;

/// The most that is read from a pipe before the clock is read again. A pipe holds less than this,
/// so all that a command has printed before its end is read at once.
const ROUND_BYTES: usize = 2 << 20;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It has exited, and its output is complete.
    Exited,
    /// It has printed more than allowed.
    TooLong,
    /// It runs still.
    Late,
    /// It has exited, but a process that it left in the background holds the incomplete output.
    Incomplete,
}

#[derive(Debug)]
pub(super) struct Outputs {
    pub(super) end: End,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    /// Whether a process still holds stdout or stderr.
    pub(super) held: bool,
}

/// Bounds for the output.
pub(super) struct Bounds {
    pub(super) stdout_bytes: usize,
    /// What follows is read and dropped.
    pub(super) stderr_bytes: usize,
    pub(super) deadline: Instant,
}

/// Follows `child` to its end. When it has ended, `complete` says whether its output so far is all
/// that is expected. The child is not reaped.
pub(super) fn follow(
    child: &mut Child,
    input: &[u8],
    bounds: &Bounds,
    complete: impl Fn(&[u8]) -> bool,
) -> io::Result<Outputs> {
    let process = Pid::from_child(child);
    let mut ended = Some(end_of(process)?);
    let mut stdin = child.stdin.take().map(|pipe| (pipe, input));
    let mut stdout = Output::of(child.stdout.take(), bounds.stdout_bytes)?;
    let mut stderr = Output::of(child.stderr.take(), bounds.stderr_bytes)?;
    if let Some((pipe, _)) = &stdin {
        ioctl_fionbio(pipe, true)?;
    }
    let end = loop {
        let left = bounds.deadline.saturating_duration_since(now());
        let left = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::from(i32::MAX), tv_nsec: 0 });
        let mut sources: Vec<_> = [ended.as_ref().map(AsFd::as_fd), stdout.fd(), stderr.fd()]
            .into_iter()
            .flatten()
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        sources.extend(stdin.as_ref().map(|(pipe, _)| PollFd::new(pipe, PollFlags::OUT)));
        match poll(&mut sources, Some(&left)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        drop(sources);
        // Before the output is read: what the command printed before its end is then in the pipe.
        if ended.as_mut().is_some_and(has_ended) {
            (ended, stdin) = (None, None);
        }
        stdin = stdin.and_then(write_more);
        stdout.read_more();
        stderr.read_more();
        if stdout.too_long {
            break End::TooLong;
        }
        if ended.is_none() && (stdout.pipe.is_none() || failed(process) || complete(&stdout.bytes)) {
            break End::Exited;
        }
        if now() >= bounds.deadline {
            break if ended.is_none() { End::Incomplete } else { End::Late };
        }
    };
    let held = stdout.pipe.is_some() || stderr.pipe.is_some();
    Ok(Outputs { end, stdout: stdout.bytes, stderr: stderr.bytes, held })
}

/// A pipe that ends when the process has ended. The process is not reaped: until then, its id and
/// its group's are not given to another process.
fn end_of(process: Pid) -> io::Result<PipeReader> {
    let (reader, writer) = io::pipe()?;
    ioctl_fionbio(&reader, true)?;
    std::thread::Builder::new().name("end".to_owned()).spawn(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(waitid(WaitId::Pid(process), options), Err(Errno::INTR)) {}
        drop(writer);
    })?;
    Ok(reader)
}

fn has_ended(pipe: &mut PipeReader) -> bool {
    !matches!(pipe.read(&mut [0]), Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted))
}

/// Whether an ended process has failed.
fn failed(process: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    matches!(waitid(WaitId::Pid(process), options), Ok(Some(status)) if status.exit_status() != Some(0))
}

/// Writes what fits. The pipe is closed when all is written, or when nobody reads, which is no
/// error.
fn write_more((mut pipe, mut input): (ChildStdin, &[u8])) -> Option<(ChildStdin, &[u8])> {
    while !input.is_empty() {
        match pipe.write(input) {
            Ok(written) => input = &input[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Some((pipe, input)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    None
}

struct Output<P> {
    /// `None` after its end.
    pipe: Option<P>,
    bytes: Vec<u8>,
    max_bytes: usize,
    too_long: bool,
}

impl<P: Read + AsFd> Output<P> {
    fn of(pipe: Option<P>, max_bytes: usize) -> io::Result<Self> {
        if let Some(pipe) = &pipe {
            ioctl_fionbio(pipe, true)?;
        }
        Ok(Self { pipe, bytes: Vec::new(), max_bytes, too_long: false })
    }

    fn fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads what is there, up to [`ROUND_BYTES`], and keeps the first bytes of all.
    fn read_more(&mut self) {
        let mut buffer = [0; 16 * 1024];
        let mut round = 0;
        while round < ROUND_BYTES
            && let Some(pipe) = &mut self.pipe
        {
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) => {
                    round += count;
                    let kept = count.min(self.max_bytes - self.bytes.len());
                    self.bytes.extend_from_slice(&buffer[..kept]);
                    self.too_long |= kept < count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The bytes before it count.
                Err(_) => self.pipe = None,
            }
        }
    }
}
