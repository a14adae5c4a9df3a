//! Any bytes as a configuration file.

#![no_main]

use std::cell::OnceCell;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use zmqv2_proto::Config;

thread_local! {
    static DIR: OnceCell<TempDir> = const { OnceCell::new() };
}

fuzz_target!(|bytes: &[u8]| {
    DIR.with(|dir| {
        let path = dir.get_or_init(|| tempfile::tempdir().expect("a directory")).path().join("zmqv2.conf");
        std::fs::write(&path, bytes).expect("a file");
        match Config::builder().file(&path).build() {
            Ok(loaded) => loaded.warnings.iter().for_each(|warning| assert!(!warning.to_string().is_empty())),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
});
