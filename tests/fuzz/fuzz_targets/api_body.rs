//! See `bulkhead_tests::targets::api_body`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bulkhead_tests::targets::api_body(data);
});
