//! See `bulkhead_tests::targets::merge`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bulkhead_tests::targets::merge(data);
});
