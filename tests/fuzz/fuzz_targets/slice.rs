//! See `bulkhead_tests::targets::slice`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bulkhead_tests::targets::slice(data);
});
