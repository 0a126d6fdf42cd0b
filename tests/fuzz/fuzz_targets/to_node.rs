//! See `bulkhead_tests::targets::to_node`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bulkhead_tests::targets::to_node(data);
});
