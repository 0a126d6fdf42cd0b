//! See `bulkhead_tests::targets::certificate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bulkhead_tests::targets::certificate(data);
});
