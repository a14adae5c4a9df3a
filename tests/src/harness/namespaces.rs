//! A machine of its own for a script, as far as the kernel can make one.

use std::process::Command;

use crate::binary;

/// A shell script in namespaces of its own, where the default port is free, `/run` is empty, and nothing is left behind on
/// this machine. `$B` is the daemon, `$Z` the tool. `None`: there are no namespaces here.
#[must_use]
pub fn in_namespaces(script: &str) -> Option<Command> {
    let root = rustix::process::geteuid().is_root();
    // With a process namespace nothing outlives it, whatever becomes of the script.
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
