//! Runs a script in Linux namespaces, isolated from this machine.

use std::process::Command;

use crate::binary;

/// A command that runs a shell script in new namespaces: the default port is free, `/run` is empty,
/// and nothing stays behind on this machine. `$B` is the daemon and `$Z` the tool. `None` if
/// namespaces are not available.
pub fn in_namespaces(script: &str) -> Option<Command> {
    let root = rustix::process::geteuid().is_root();
    // In a process namespace nothing outlives the script.
    let mut flags = vec!["--mount", "--net", "--pid", "--fork", "--kill-child=KILL"];
    if !root {
        flags.push("--map-root-user");
    }
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(&flags).args(["sh", "-ec"]).arg(format!("mount -t tmpfs tmpfs /run; {script}"));
        command.env_remove("XDG_RUNTIME_DIR").env_remove("HOME");
        command.env("Z", binary("zmqv2")).env("B", binary("zmqv2-broker"));
        command
    };
    unshare("true").output().ok().filter(|output| output.status.success())?;
    Some(unshare(script))
}
