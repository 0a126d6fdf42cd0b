//! See `bulkhead_tests::targets::host_packet`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bulkhead_tests::targets::host_packet(data);
});
