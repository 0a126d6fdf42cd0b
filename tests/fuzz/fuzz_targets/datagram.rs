//! See `bulkhead_tests::targets::datagram`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bulkhead_tests::targets::datagram(data);
});
