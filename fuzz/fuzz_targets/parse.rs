//! libFuzzer's door to [`mtcp_fuzz::parse`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mtcp_fuzz::parse::run(data));
