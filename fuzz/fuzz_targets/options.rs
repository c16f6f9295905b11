//! libFuzzer's door to [`mtcp_fuzz::options`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mtcp_fuzz::options::run(data));
