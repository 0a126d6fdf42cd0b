//! See `bulkhead_tests::targets::hours`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bulkhead_tests::targets::hours(data);
});
