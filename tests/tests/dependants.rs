//! A program outside of this workspace can use each crate alone: the service of the examples as the
//! declaration (with `zmqv2-proto`), the client (with `zmqv2-client`) and the server (with
//! `zmqv2-server`). Each is a Cargo project of its own, with the versions of our `Cargo.lock`.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The declaration, for a program that has it as a module and depends on one crate of ours.
fn declaration(of: &str) -> String {
    let text = read("crates/zmqv2-server/examples/inventory/mod.rs");
    assert_eq!(text.matches("use zmqv2_proto::service;").count(), 1, "the declaration needs one import of ours");
    text.replace("zmqv2_proto::", &format!("{of}::"))
}

/// A project, and what Cargo says to it.
struct Project<'a> {
    /// Our crate that it depends on, with its options.
    uses: &'a str,
    options: &'a str,
    /// Its other dependencies, with their options.
    others: &'a [(&'a str, &'a str)],
    sources: &'a [(&'a str, String)],
}

impl Project<'_> {
    /// Compiles it without warnings.
    fn check(&self) -> Result<(), String> {
        let dir = TempDir::new().expect("a directory");
        let path = root().join("crates").join(self.uses);
        let mut manifest = "[package]\nname = \"inventory\"\nversion = \"0.1.0\"\nedition = \"2024\"\n".to_owned();
        manifest += &format!("[workspace]\n[dependencies]\n{} = {{ path = {path:?}, {} }}\n", self.uses, self.options);
        for (name, options) in [("serde", r#"features = ["derive"]"#), ("thiserror", "")].iter().chain(self.others) {
            manifest += &format!("{name} = {{ version = \"*\", {options} }}\n");
        }
        let sources = [("Cargo.toml", manifest), ("Cargo.lock", read("Cargo.lock"))];
        std::fs::create_dir_all(dir.path().join("src/inventory")).expect("a directory");
        for (name, text) in sources.iter().chain(self.sources) {
            std::fs::write(dir.path().join(name), text).expect("a file");
        }
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["check", "--offline", "--all-targets", "--target-dir"]).arg(root().join("target/dependants"));
        cargo.current_dir(dir.path()).env("RUSTFLAGS", "-D warnings");
        let output = cargo.output().expect("cargo runs");
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }
}

const TOKIO: (&str, &str) = ("tokio", r#"default-features = false, features = ["macros", "rt-multi-thread", "time"]"#);

/// A second server, with blocking handlers.
const BLOCKING: &str = r#"
mod inventory;

use inventory::{Inventory, InventoryError, Reservation};
use zmqv2_server::{Call, MethodResult, RpcServer};

struct Empty;

impl Inventory for Empty {
    fn reserve(&self, _: &Call, part: String, _: u32) -> MethodResult<Reservation, InventoryError> {
        Err(InventoryError::TooFew { part, left: 0 })?
    }

    fn release(&self, _: &Call, id: u64) -> MethodResult<(), InventoryError> {
        Err(InventoryError::Unknown { id })?
    }

    fn count(&self, call: &Call, _: String) -> MethodResult<u32, InventoryError> {
        Ok(u32::from(call.is_cancelled()))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let inventory = Empty.into_endpoint();
    RpcServer::builder(inventory.target()).endpoint(inventory).start()?.stop()?;
    Ok(())
}
"#;

#[test]
fn each_crate_alone_is_enough_for_its_part_of_a_service() {
    let proto = Project {
        uses: "zmqv2-proto",
        options: "default-features = false",
        others: &[],
        sources: &[("src/lib.rs", declaration("zmqv2_proto"))],
    };
    proto.check().unwrap_or_else(|error| panic!("the declaration: {error}"));
    let client = Project {
        uses: "zmqv2-client",
        options: "",
        others: &[TOKIO],
        sources: &[
            ("src/main.rs", read("crates/zmqv2-client/examples/inventory_client.rs")),
            ("src/inventory/mod.rs", declaration("zmqv2_client")),
        ],
    };
    client.check().unwrap_or_else(|error| panic!("the client: {error}"));
    let server = Project {
        uses: "zmqv2-server",
        options: r#"features = ["tokio"]"#,
        others: &[TOKIO, ("signal-hook", "")],
        sources: &[
            ("src/main.rs", read("crates/zmqv2-server/examples/inventory_server.rs")),
            ("src/inventory/mod.rs", declaration("zmqv2_server")),
        ],
    };
    server.check().unwrap_or_else(|error| panic!("the server: {error}"));
    let blocking = Project {
        options: "",
        others: &[],
        sources: &[("src/main.rs", BLOCKING.to_owned()), ("src/inventory/mod.rs", declaration("zmqv2_server"))],
        ..server
    };
    blocking.check().unwrap_or_else(|error| panic!("the blocking server: {error}"));
}
