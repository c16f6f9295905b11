//! libFuzzer's door to [`mtcp_fuzz::segment`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mtcp_fuzz::segment::run(data));
