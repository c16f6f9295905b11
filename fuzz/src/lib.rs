//! What strangers may send to the engine, and what must hold whatever they send.
//!
//! Each module is a target: `run` takes any bytes, makes something of them that a network or an
//! application could do, and panics when an invariant is broken. libFuzzer calls it from
//! `fuzz_targets/` (`make fuzz`), and `tests/corpus.rs` replays the kept inputs on every
//! `cargo test`, so that what was found once stays found.
#![allow(clippy::panic, clippy::unwrap_used)] // a broken invariant is a panic: that is how it is reported

mod lane;
pub mod options;
pub mod parse;
mod peer;
pub mod segment;
pub mod sequence;

/// A target, as a function.
pub type Target = fn(&[u8]);

/// Every target, by the name of its binary and of its folder in `corpus/`.
pub const TARGETS: [(&str, Target); 4] = [
    ("parse", parse::run),
    ("options", options::run),
    ("segment", segment::run),
    ("sequence", sequence::run),
];
