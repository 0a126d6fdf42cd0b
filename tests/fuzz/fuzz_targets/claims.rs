//! See `bulkhead_tests::targets::claims`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bulkhead_tests::targets::claims(data);
});
