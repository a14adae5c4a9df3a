//! Proof by journals: every process writes what it does, and a checker compares the journals with
//! the promises.

pub mod checker;
pub mod faults;
pub mod journal;
pub mod journaled_run;
pub mod load;
pub mod scenarios;
mod thread_safety;
pub mod traffic;
