//! See `bulkhead_tests::targets::receipt`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bulkhead_tests::targets::receipt(data);
});
