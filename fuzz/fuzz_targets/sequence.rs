//! libFuzzer's door to [`mtcp_fuzz::sequence`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mtcp_fuzz::sequence::run(data));
