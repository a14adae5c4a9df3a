//! The process groups of running commands. None of them outlives the service, however it ends.
//!
//! A guard process gets the number of each group through a pipe. When the service is gone, the pipe
//! ends, and the guard kills the groups that are left. So this works even after `kill -9`.

use std::collections::HashSet;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::serve::now;

/// The most groups that live on after the answer. For another one, the oldest is killed.
const MAX_LINGERING: usize = 64;

/// Reads `+ GROUP` and `- GROUP`. Signals that the service gets from a terminal do not end it.
const GUARD: &str = r#"
trap '' HUP INT QUIT TERM
groups=' '
while read -r sign group; do
    case $sign in
    +) groups="$groups$group " ;;
    -) groups="${groups%%" $group "*} ${groups#*" $group "}" ;;
    esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
"#;

pub(super) struct ProcessGroups {
    running: Mutex<Running>,
    lingering: Sender<(Instant, Child)>,
}

struct Running {
    groups: HashSet<Pid>,
    /// `None` after the end.
    guard: Option<(Child, ChildStdin)>,
}

impl Running {
    fn tell_guard(&mut self, sign: char, group: Pid) {
        if let Some((_, pipe)) = &mut self.guard {
            // Without a guard, only `kill -9` leaves groups behind.
            let _ = writeln!(pipe, "{sign} {group}");
        }
    }
}

impl ProcessGroups {
    pub(super) fn start() -> io::Result<Arc<Self>> {
        let mut guard = Command::new("/bin/sh")
            .args(["-c", GUARD])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let guard = guard.stdin.take().map(|pipe| (guard, pipe));
        let (lingering, received) = crossbeam_channel::unbounded();
        let groups = Arc::new(Self { running: Mutex::new(Running { groups: HashSet::new(), guard }), lingering });
        let weak = Arc::downgrade(&groups);
        std::thread::Builder::new().name("lingering".to_owned()).spawn(move || {
            end_in_time(&received, |child| {
                if let Some(groups) = weak.upgrade() {
                    groups.kill(child);
                }
            });
        })?;
        Ok(groups)
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A command has been started as the leader of a group.
    pub(super) fn add(&self, child: &Child) {
        let mut running = self.running();
        let group = Pid::from_child(child);
        running.groups.insert(group);
        running.tell_guard('+', group);
        if running.guard.is_none() {
            // The service has ended meanwhile.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Forgets the group and reaps its leader. The order matters: afterwards the system may give
    /// the number to another group.
    pub(super) fn reap(&self, mut child: Child) -> io::Result<std::process::ExitStatus> {
        let mut running = self.running();
        let group = Pid::from_child(&child);
        running.groups.remove(&group);
        running.tell_guard('-', group);
        drop(running);
        child.wait()
    }

    /// Kills all processes of the group.
    pub(super) fn kill(&self, child: Child) {
        // The leader is not reaped, so the number is its own.
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        // A process that hangs in the kernel may end later, and nothing must wait for it.
        let _ = self.reap(child);
    }

    /// The command has ended, but processes of its group hold its output. They live until `deadline`.
    pub(super) fn kill_at(&self, deadline: Instant, child: Child) {
        // The thread receives as long as this exists.
        let _ = self.lingering.send((deadline, child));
    }

    /// Kills every group, and those that are added later. The service ends.
    pub(super) fn end(&self) {
        let mut running = self.running();
        let Some((mut guard, pipe)) = running.guard.take() else { return };
        for group in running.groups.drain() {
            let _ = kill_process_group(group, Signal::KILL);
        }
        // The guard kills them once more, and ends.
        drop(pipe);
        let _ = guard.wait();
    }
}

/// Ends each child at its time.
fn end_in_time(received: &Receiver<(Instant, Child)>, end: impl Fn(Child)) {
    let mut lingering: Vec<(Instant, Child)> = Vec::new();
    loop {
        let next = lingering.iter().map(|(deadline, _)| *deadline).min();
        let more = match next {
            Some(deadline) => received.recv_deadline(deadline),
            None => received.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match more {
            Ok(more) => lingering.push(more),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let surplus = lingering.len().saturating_sub(MAX_LINGERING);
        lingering.drain(..surplus).for_each(|(_, child)| end(child));
        let now = now();
        while let Some(at) = lingering.iter().position(|(deadline, _)| *deadline <= now) {
            end(lingering.swap_remove(at).1);
        }
    }
}
