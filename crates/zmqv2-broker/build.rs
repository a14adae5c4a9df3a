//! Compresses the debug sections of the release programs: they hold the lines that a backtrace names.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name, value| std::env::var(name).as_deref() == Ok(value);
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") {
        // The linker compresses well with -O2 only.
        println!("cargo::rustc-link-arg-bins=-Wl,--compress-debug-sections=zlib,-O2");
    }
}
