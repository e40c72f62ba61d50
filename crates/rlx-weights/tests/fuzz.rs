//! Mutations of valid files: no reader panics, allocates beyond the class of its
//! input, or accepts what the reference implementation of safetensors refuses.
//!
//! Deterministic: the same seeds give the same mutations on every machine. One
//! test only: what another one allocated meanwhile would be counted.

use rlx_ir::{DType, Literal};
use rlx_weights::npz::Compression;
use rlx_weights::{WeightBytes, WeightError, npy, npz, safetensors};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MUTATIONS: u64 = 20_000;
/// Bytes that deflated members may unpack to.
const ARCHIVE_LIMIT: u64 = 64 << 10;

/// The splitmix64 generator.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Byte strings that formats give a meaning to.
const TOKENS: [&[u8]; 14] = [
    b"18446744073709551615",
    b"-1",
    b"0",
    b"[[[[[[[[",
    b"{\"",
    b"\"dtype\":\"F4\"",
    b"\"shape\":[0]",
    b"\"a\"",
    b"'descr'",
    b"True",
    b"(9999999999, 9999999999)",
    b"PK\x01\x02",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00",
];

fn mutate(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(2) * random.below(4) {
        // Half of the changes go where the structure is: the start or the end.
        let region = if random.below(2) == 0 { bytes.len() } else { bytes.len().min(160) };
        let from_end = random.below(3) == 0;
        let at = random.below(region);
        let at = if from_end { bytes.len() - at } else { at };
        let end = (at + random.below(12)).min(bytes.len());
        match random.below(7) {
            0 => bytes.truncate(at),
            1 => drop(bytes.splice(at..end, [])),
            2 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            3 => drop(bytes.splice(at..end, TOKENS[random.below(TOKENS.len())].iter().copied())),
            4 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            5 if at < bytes.len() => {
                bytes[at] = bytes[at].wrapping_add(1).wrapping_sub(2 * random.below(2) as u8)
            }
            _ if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            _ => {}
        }
    }
    bytes
}

fn seed_tensors() -> Vec<(&'static str, Literal)> {
    vec![
        ("a", Literal::floats(DType::F32, &[2, 3], &[1.0; 6]).expect("one value per element")),
        ("layers.0.weight", Literal::floats(DType::BF16, &[4], &[2.0; 4]).expect("one value per element")),
        ("flags", Literal::ints(DType::Bool, &[3], &[1, 0, 1]).expect("one value per element")),
        ("empty", Literal::ints(DType::I64, &[0, 2], &[]).expect("one value per element")),
    ]
}

/// Makes the header length of `mutated` follow what the header gained or lost,
/// so that changes get past the first check.
fn repair(format: &str, seed: &[u8], mutated: &mut [u8]) {
    let field = match format {
        "safetensors" => 0..8,
        "npy" => 8..10,
        _ => return,
    };
    let gained = mutated.len() as i64 - seed.len() as i64;
    let length =
        seed[field.clone()].iter().rev().fold(0, |length, &byte| length << 8 | i64::from(byte)) + gained;
    if let Some(place) = mutated.get_mut(field) {
        place.copy_from_slice(&length.to_le_bytes()[..place.len()]);
    }
}

/// Valid files of every format, with the reader for each.
type Reader = fn(&WeightBytes) -> Result<(), WeightError>;
fn seeds() -> Vec<(&'static str, Vec<u8>, Reader)> {
    let literals = seed_tensors();
    let tensors: Vec<_> = literals
        .iter()
        .map(|(name, literal)| {
            let (dtype, dims, bytes) = (literal.dtype(), literal.dims(), literal.bytes());
            (*name, rlx_weights::TensorRef { dtype, dims, bytes })
        })
        .collect();
    let mut files = vec![Vec::new(); 4];
    safetensors::write("memory", &mut files[0], &tensors, &[("format", "np")]).expect("writable");
    npy::write("memory", &mut files[1], tensors[0].1).expect("writable");
    npz::write("memory", &mut files[2], &tensors, Compression::Stored).expect("writable");
    npz::write("memory", &mut files[3], &tensors, Compression::Deflated).expect("writable");
    let readers: [(&str, Reader); 4] = [
        ("safetensors", |bytes| safetensors::read("memory", bytes).map(drop)),
        ("npy", |bytes| npy::read("memory", "w", bytes).map(drop)),
        ("npz", |bytes| npz::read("memory", bytes, ARCHIVE_LIMIT).map(drop)),
        ("npz", |bytes| npz::read("memory", bytes, ARCHIVE_LIMIT).map(drop)),
    ];
    files.into_iter().zip(readers).map(|(file, (name, reader))| (name, file, reader)).collect()
}

/// Whether the reference may accept what we refused with `error`.
fn stricter_than_reference(error: &WeightError) -> bool {
    let text = error.to_string();
    matches!(
        error,
        WeightError::DuplicateTensor { .. }
            | WeightError::NotBool { .. }
            | WeightError::UnsupportedDtype { .. }
            | WeightError::ShapeTooLarge { .. }
    ) || text.contains("extents")
        || text.contains("expected a JSON object")
}

#[test]
fn mutated_files_are_read_or_refused_within_bounds() {
    let mut outcomes = [0u32; 2];
    for (index, (format, seed, read)) in seeds().into_iter().enumerate() {
        let intact = WeightBytes::from(seed.clone());
        read(&intact).unwrap_or_else(|error| panic!("{format} seed {index}: {error}"));
        let mut random = Random(index as u64);
        for round in 0..MUTATIONS {
            let mut mutated = mutate(&seed, &mut random);
            if random.below(2) == 0 {
                repair(format, &seed, &mut mutated);
            }
            let allowed = 64 * mutated.len()
                + (32 << 10)
                + if format == "npz" { 4 * ARCHIVE_LIMIT as usize } else { 0 };
            let bytes = WeightBytes::from(mutated.clone());
            let region = Region::new(ALLOCATOR);
            let result = read(&bytes);
            let allocated = region.change().bytes_allocated;
            assert!(allocated <= allowed, "{format} round {round}: {allocated} bytes for {}", mutated.len());
            outcomes[usize::from(result.is_ok())] += 1;
            if format == "safetensors" {
                agrees_with_reference(&mutated, &bytes, round);
            }
        }
    }
    // Both ways must be taken often, or the mutations test nothing.
    assert!(outcomes.iter().all(|&count| count > 500), "refused and read: {outcomes:?}");
}

fn agrees_with_reference(mutated: &[u8], bytes: &WeightBytes, round: u64) {
    let (ours, reference) =
        (safetensors::read("memory", bytes), ::safetensors::SafeTensors::deserialize(mutated));
    assert!(ours.is_err() || reference.is_ok(), "round {round}: the reference refuses: {reference:?}");
    match (ours, reference) {
        (Ok(ours), Ok(reference)) => {
            assert_eq!(ours.tensors.len(), reference.len(), "round {round}");
            for tensor in &ours.tensors {
                let theirs = reference.tensor(tensor.name()).expect("a name that both have");
                assert_eq!(tensor.bytes()[..], *theirs.data(), "round {round}");
                assert_eq!(tensor.dims(), theirs.shape(), "round {round}");
            }
        }
        (Err(error), Ok(_)) => assert!(stricter_than_reference(&error), "round {round}: {error}"),
        (_, Err(_)) => {}
    }
}
