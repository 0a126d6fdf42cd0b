//! Every fuzz target over its corpus and a few thousand mutations of it, on the stable compiler.
//!
//! The corpora hold real values, written by `BULKHEAD_CORPUS=write cargo test -p bulkhead-tests --test corpus`
//! from `bulkhead_tests::targets::seeds`; what the fuzzer found (tests/fuzz) may lie beside them.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bulkhead_tests::source_root;
use bulkhead_tests::targets::{ALL, Target, seeds};

/// Mutations of one target's corpus, unless its time is up before.
const MUTATIONS: u64 = 4000;
const TIME: Duration = Duration::from_secs(2);
/// Mutated inputs are no longer than this.
const MAX_INPUT: usize = 8192;
/// All corpora together stay small enough to live in the repository.
const MAX_CORPORA_BYTES: usize = 300 * 1024;

macro_rules! corpora {
    ($($target:ident)*) => {
        const RUN: &[&str] = &[$(stringify!($target)),*];
        $(#[test]
        fn $target() {
            run(stringify!($target), bulkhead_tests::targets::$target);
        })*
    };
}

corpora! {
    api_body bundle certificate chain claims conversation datagram frame host_packet hours map merge name packet
    policy_text ports receipt request revocations seal selector slice split to_coordinator to_node token trust
}

fn fuzz() -> PathBuf {
    source_root().join("tests/fuzz")
}

fn corpus(target: &str) -> PathBuf {
    fuzz().join("corpus").join(target)
}

/// Files of a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn run(name: &str, target: Target) {
    let folder = corpus(name);
    if std::env::var_os("BULKHEAD_CORPUS").is_some_and(|wish| wish == "write") {
        std::fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in seeds(name) {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
    }
    let inputs: Vec<Vec<u8>> = files(&folder).iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(!inputs.is_empty(), "{} is missing or empty", folder.display());
    let accepted = inputs.iter().filter(|input| target(input)).count();
    assert!(accepted > 0, "nothing in {} is what {name} reads any more: write it again", folder.display());
    // What is made now is accepted too: else the target tests nothing of today's format.
    assert!(seeds(name).iter().any(|(_, bytes)| target(bytes)));

    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (start, mut runs) = (Instant::now(), 0);
    while runs < MUTATIONS && start.elapsed() < TIME {
        target(&mutated(&inputs, &mut random));
        runs += 1;
    }
}

#[test]
fn every_target_has_a_corpus_a_fuzzer_and_a_test_and_nothing_else_has() {
    let names: BTreeSet<String> = ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(RUN.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), names);
    let named = |folder: &str| -> BTreeSet<String> {
        let stem = |file: &PathBuf| file.file_stem().unwrap().to_string_lossy().into_owned();
        files(&fuzz().join(folder)).iter().map(stem).collect()
    };
    assert_eq!(named("corpus"), names);
    assert_eq!(named("fuzz_targets"), names);
    let manifest: toml::Table = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap().parse().unwrap();
    let bins = manifest["bin"].as_array().unwrap().iter();
    assert_eq!(bins.map(|bin| bin["name"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>(), names);
}

#[test]
fn the_corpora_are_small() {
    let all = ALL.iter().flat_map(|(name, _)| files(&corpus(name)));
    // Finds of a local fuzzer are named by their hash and not part of the repository.
    let ours = all.filter(|file| file.file_name().is_some_and(|name| name.len() != 40));
    let bytes: u64 = ours.map(|file| file.metadata().unwrap().len()).sum();
    assert!(bytes <= MAX_CORPORA_BYTES as u64, "{bytes} bytes");
}

/// Xorshift (Marsaglia 2003): the same mutations on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }
}

/// One of `inputs`, changed in one to four places.
fn mutated(inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = inputs[random.below(inputs.len())].clone();
    for _ in 0..=random.below(4) {
        mutate(&mut bytes, inputs, random);
    }
    bytes.truncate(MAX_INPUT);
    bytes
}

fn mutate(bytes: &mut Vec<u8>, inputs: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len());
    match random.below(8) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        1 if !bytes.is_empty() => bytes[at] = random.byte(),
        2 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b',', b'\n', 0x18][random.below(8)],
        3 => bytes.insert(at, random.byte()),
        4 => bytes.truncate(at),
        5 if !bytes.is_empty() => {
            let end = at + random.below(bytes.len() - at).min(64);
            bytes.drain(at..end);
        }
        6 => {
            let end = at + random.below(bytes.len() - at).min(64);
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        _ => {
            // The end of another.
            let other = &inputs[random.below(inputs.len())];
            bytes.truncate(at);
            bytes.extend(&other[random.below(other.len())..]);
        }
    }
}
