//! See `bulkhead_tests::targets::token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bulkhead_tests::targets::token(data);
});
