//! What new processes are told while Redis may not know all servers.

use crate::redis_cluster::{SERVERS, directory_of, registered};
use crate::{Cluster, Finished, Node, Process, eventually};

/// The line of the status that is about the directory.
pub fn directory_line(node: &Node) -> String {
    let status = node.tool(&["status"]).stdout;
    status.lines().find(|line| line.contains("directory redis")).unwrap_or_default().to_owned()
}

/// What new processes at a node were told.
#[derive(Debug, Default)]
pub struct Told {
    right: usize,
    unsure: usize,
    wrong: Vec<String>,
}

impl Told {
    /// Starts new processes: a fanout, a call to any server, and one to each. All servers live.
    pub fn ask(&mut self, node: &Node) {
        let fanout = node.tool(&["fanout", "t", "echo", "1", "--timeout", "8"]);
        let accepted = fanout.stdout.lines().filter(|line| line.contains("acked")).count();
        self.count(&fanout, fanout.code() != 0 || accepted == SERVERS.len());
        let call = node.tool(&["call", "t", "echo", "1", "--timeout", "8"]);
        self.count(&call, true);
        for name in SERVERS {
            let call = node.tool(&["call", "t", "echo", "1", "--server", name, "--timeout", "8"]);
            self.count(&call, true);
        }
    }

    /// `right`: whether success, if it says so, is the truth.
    fn count(&mut self, ended: &Finished, right: bool) {
        let mut lines = ended.stderr.lines();
        let is_unsure = lines.any(|line| line.starts_with("Directory") || line.starts_with("Incomplete"));
        match ended.code() {
            0 if right => self.right += 1,
            5 if is_unsure => self.unsure += 1,
            _ => self.wrong.push(format!("{ended:?}")),
        }
    }

    pub fn assert_true(&self) {
        println!("{} were right, {} were told that it is not sure", self.right, self.unsure);
        assert!(self.wrong.is_empty(), "{} were told something wrong: {}", self.wrong.len(), self.wrong[0]);
    }
}

/// Three nodes with a broker and a server each, which renew every `renew_every` seconds.
#[must_use]
pub fn three_nodes(directory: &[String], renew_every: u64, lease: u64) -> (Cluster, Vec<Process>) {
    let times = [
        format!("matchmaker_heartbeat_freq={renew_every}"),
        format!("matchmaker_heartbeat_ttl={lease}"),
        "refresh_interval=2".to_owned(),
    ];
    let cluster = Cluster::with_directory(3, &[directory, &times].concat());
    let mut processes: Vec<_> = cluster.nodes().iter().map(Node::broker).collect();
    processes.extend(cluster.nodes().iter().zip(SERVERS).map(|(node, name)| node.serve("t", name, &[])));
    let directory = directory_of(&cluster);
    eventually("all are registered", || registered(&directory).is_ok_and(|names| names == SERVERS));
    (cluster, processes)
}
