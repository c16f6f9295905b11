//! Every kept input, through its target, on every `cargo test`: what the fuzzer once found stays
//! found, and the targets keep compiling against the engine.
#![allow(clippy::panic, clippy::unwrap_used)] // a test may

use std::fs;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;

use mtcp_engine::random::SplitMix64;

/// The most that the corpus may weigh in the repository, in bytes.
const MAX_CORPUS_BYTES: u64 = 500_000;

#[test]
fn every_kept_input_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut weight = 0;
    for (name, target) in mtcp_fuzz::TARGETS {
        let mut inputs = 0;
        for entry in fs::read_dir(corpus.join(name)).unwrap() {
            let path = entry.unwrap().path();
            let data = fs::read(&path).unwrap();
            weight += data.len() as u64;
            inputs += 1;
            let outcome = catch_unwind(AssertUnwindSafe(|| target(&data)));
            assert!(outcome.is_ok(), "{name}: {}", path.display());
        }
        assert!(inputs >= 10, "{name} has {inputs} kept inputs");
    }
    assert!(weight < MAX_CORPUS_BYTES, "{weight} bytes: minimise it with scripts/fuzz --minimise");
}

/// No coverage guides these, but they need no corpus either.
#[test]
fn random_inputs_hold() {
    for (name, target) in mtcp_fuzz::TARGETS {
        for seed in 0..300 {
            let mut random = SplitMix64(seed);
            let len = random.next_u64() as usize % 300;
            let data: Vec<u8> = (0..len).map(|_| random.next_u64() as u8).collect();
            let outcome = catch_unwind(AssertUnwindSafe(|| target(&data)));
            assert!(outcome.is_ok(), "{name}, seed {seed}");
        }
    }
}
