#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zerok_sync_core::fuzzing::snapshot(data));
