//! See `bulkhead_tests::targets::seal`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bulkhead_tests::targets::seal(data);
});
