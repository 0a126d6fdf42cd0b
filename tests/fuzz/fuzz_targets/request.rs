//! See `bulkhead_tests::targets::request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bulkhead_tests::targets::request(data);
});
