//! Files that NumPy and the safetensors package wrote (`recipes/golden_weights.py`),
//! read back to the values that the recipe states, and written again.

use rlx_ir::{DType, DTypeClass, Literal, Number};
use rlx_weights::npz::Compression;
use rlx_weights::{
    BytesWeightLoader, MappedWeights, TensorRef, WeightBytes, WeightError, WeightLoader, npy, npz,
    safetensors,
};
use std::path::PathBuf;

const DTYPES: [DType; 15] = [
    DType::F16,
    DType::F32,
    DType::F64,
    DType::BF16,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
    DType::Bool,
    DType::C64,
    DType::C128,
];

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn bytes(name: &str) -> WeightBytes {
    std::fs::read(path(name)).expect(name).into()
}

/// The array that the recipe makes.
fn expected(dtype: DType, dims: &[usize]) -> Literal {
    let count = dims.iter().product::<usize>() as i64;
    let numbers = (0..count).map(|index| {
        let base = (index * 37 + 11) % 101 - 50;
        match dtype.class() {
            DTypeClass::Float => Number::Float(base as f64),
            DTypeClass::Complex => Number::Complex(base as f64, -index as f64),
            DTypeClass::Unsigned => Number::Int(base.unsigned_abs().into()),
            DTypeClass::Bool => Number::Int((base.rem_euclid(2)).into()),
            _ => Number::Int(base.into()),
        }
    });
    Literal::from_numbers(dtype, dims, numbers).expect("as many numbers as elements")
}

fn assert_is(loader: &dyn WeightLoader, name: &str, literal: &Literal) {
    let tensor = loader.tensor(name).expect(name);
    assert_eq!(tensor.to_literal().as_ref(), Ok(literal), "{name} of {}", loader.source());
}

#[test]
fn npz_of_both_byte_orders_and_layouts_hold_the_same() {
    for file in
        ["little_c_stored.npz", "little_fortran_deflated.npz", "big_c_deflated.npz", "big_fortran_stored.npz"]
    {
        let loader = MappedWeights::open(path(file)).expect(file);
        assert_eq!(loader.names(), DTYPES.map(DType::name), "{file}");
        for dtype in DTYPES {
            assert_is(&loader, dtype.name(), &expected(dtype, &[2, 3, 2]));
        }
    }
}

#[test]
fn npz_of_every_rank_holds_what_the_recipe_states() {
    let loader = BytesWeightLoader::from_npz(bytes("shapes.npz"), 0).expect("stored members need no budget");
    let shapes: [(&str, &[usize]); 5] = [
        ("scalar", &[]),
        ("empty", &[2, 0, 3]),
        ("vector", &[5]),
        ("matrix", &[3, 4]),
        ("four", &[2, 1, 3, 2]),
    ];
    for (name, dims) in shapes {
        assert_is(&loader, name, &expected(DType::I16, dims));
    }
}

#[test]
fn stored_arrays_are_borrowed_from_the_archive() {
    let archive = bytes("little_c_stored.npz");
    let range = archive.as_ptr_range();
    for tensor in npz::read("memory", &archive, 0).expect("a golden file") {
        assert!(range.contains(&tensor.bytes().as_ptr()), "{}", tensor.name());
    }
}

#[test]
fn npy_of_every_version_reads() {
    for version in 1..=3 {
        let name = format!("version{version}");
        let loader = MappedWeights::open(path(&format!("{name}.npy"))).expect(&name);
        assert_is(&loader, &name, &expected(DType::F32, &[2, 3]));
    }
}

#[test]
fn our_npy_and_npz_are_what_numpy_writes() {
    let literal = expected(DType::F32, &[2, 3]);
    let tensor = TensorRef { dtype: DType::F32, dims: &[2, 3], bytes: literal.bytes() };
    let mut written = Vec::new();
    npy::write("memory", &mut written, tensor).expect("f32 is writable");
    assert_eq!(written, bytes("version1.npy")[..]);

    for compression in [Compression::Stored, Compression::Deflated] {
        let tensors = npz::read("memory", &bytes("little_c_stored.npz"), 0).expect("a golden file");
        let named: Vec<_> = tensors.iter().map(|tensor| (tensor.name(), tensor.view())).collect();
        let mut written = Vec::new();
        npz::write("memory", &mut written, &named, compression).expect("all dtypes are writable");
        let again = npz::read("memory", &written.into(), 1 << 20).expect("our own archive");
        assert_eq!(again.iter().map(|tensor| (tensor.name(), tensor.view())).collect::<Vec<_>>(), named);
    }
}

#[test]
fn safetensors_of_every_dtype_read_and_write_the_same_bytes() {
    let file = bytes("numpy.safetensors");
    let contents = safetensors::read("memory", &file).expect("a golden file");
    let loader = BytesWeightLoader::from_tensors(contents.tensors.clone()).expect("distinct names");
    for dtype in DTYPES.into_iter().filter(|&dtype| dtype != DType::C128) {
        assert_is(&loader, dtype.name(), &expected(dtype, &[2, 3, 2]));
    }
    assert!(contents.metadata.contains(&("note".into(), "quotes \" and \u{e9}".into())));

    let small = bytes("small_floats.safetensors");
    let small_contents = safetensors::read("memory", &small).expect("a golden file");
    let types: Vec<String> =
        small_contents.tensors.iter().map(|tensor| tensor.view().ty().to_string()).collect();
    let spelled = [
        "f8e5m2fnuz[2, 4]",
        "f8e4m3fnuz[2, 4]",
        "f8e8m0[2, 4]",
        "f8e4m3[2, 4]",
        "f8e5m2[2, 4]",
        "f4e2m1[2, 4]",
    ];
    assert_eq!(types, spelled);
    assert_eq!(small_contents.tensors[5].bytes()[..], [0, 1, 2, 3]);

    for (file, contents) in [(file, contents), (small, small_contents)] {
        let named: Vec<_> =
            contents.tensors.iter().map(|tensor| (tensor.name(), tensor.view())).rev().collect();
        let metadata: Vec<_> = contents.metadata.iter().map(|(key, value)| (&key[..], &value[..])).collect();
        let mut written = Vec::new();
        safetensors::write("memory", &mut written, &named, &metadata).expect("what was read is writable");
        assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(&file));
    }
}

#[test]
fn archives_that_unpack_to_too_much_are_stopped() {
    let literal = Literal::ints(DType::U8, &[1 << 20], &vec![0; 1 << 20]).expect("one value per element");
    let tensor = TensorRef { dtype: DType::U8, dims: &[1 << 20], bytes: literal.bytes() };
    let mut archive = Vec::new();
    npz::write("memory", &mut archive, &[("zeros", tensor)], Compression::Deflated).expect("writable");
    let small = archive.len();
    assert!(small < 4096, "{small} bytes");
    assert!(npz::read("memory", &archive.clone().into(), 2 << 20).is_ok());
    let refused = npz::read("memory", &archive.into(), 1 << 20);
    assert!(matches!(refused, Err(WeightError::OverBudget { .. })), "{refused:?}");
}
