//! See `bulkhead_tests::targets::to_coordinator`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bulkhead_tests::targets::to_coordinator(data);
});
