//! A network of its own for a test: nobody else uses its addresses, and it can be cut.

use std::process::Command;

use super::skip;

const INSIDE: &str = "ZMQV2_PRIVATE_NETWORK";

/// The loopback network of a Linux network namespace, in which the whole test runs.
#[derive(Debug)]
pub struct PrivateNetwork(());

impl PrivateNetwork {
    /// Runs `body` in a new network namespace: starts this test again in there. Skips it if
    /// namespaces or `tc` are missing. `test` is the name of the calling test.
    pub fn run(test: &str, body: impl FnOnce(&Self)) {
        if std::env::var_os(INSIDE).is_some() {
            run("ip", &["link", "set", "lo", "up"]);
            return body(&Self(()));
        }
        let root = rustix::process::geteuid().is_root();
        let unshare = |program: &std::ffi::OsStr| {
            let mut command = Command::new("unshare");
            command.args(["--net", "--kill-child=KILL", "--fork"]);
            command.args((!root).then_some("--map-root-user")).arg(program);
            command
        };
        // The queue that drops everything must exist in this kernel.
        let mut probe = unshare("sh".as_ref());
        let probe = probe.args(["-ec", &format!("ip link set lo up; tc {}", CUT.join(" "))]);
        if !probe.output().is_ok_and(|output| output.status.success()) {
            return skip(test, "no network namespaces, or no tc (package iproute2)");
        }
        let mut again = unshare(std::env::current_exe().expect("this program").as_os_str());
        again.args(["--exact", test, "--nocapture", "--include-ignored"]).env(INSIDE, "1");
        let status = again.status().expect("unshare runs");
        assert!(status.success(), "the test in its own network: {status}");
    }

    /// Drops every packet from now on. Connections stay open, and local sockets work.
    pub fn cut(&self) {
        run("tc", CUT);
    }

    /// Lets packets through again.
    pub fn heal(&self) {
        run("tc", &["qdisc", "del", "dev", "lo", "root"]);
    }
}

/// Every packet is larger than what this queue takes.
const CUT: &[&str] = &["qdisc", "add", "dev", "lo", "root", "tbf", "rate", "8bit", "burst", "1b", "limit", "1b"];

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().expect("a program of iproute2");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
