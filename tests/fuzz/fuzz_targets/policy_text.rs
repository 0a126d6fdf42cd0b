//! See `bulkhead_tests::targets::policy_text`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bulkhead_tests::targets::policy_text(data);
});
