//! Small weight files and folders that several test programs build.
#![allow(dead_code, reason = "each test program uses some of it")]

use rlx_ir::{DType, Literal};
use rlx_weights::output::write_file;
use rlx_weights::{TensorRef, WeightTensor, safetensors};
use std::path::Path;

/// An `f32` tensor whose elements count up from `first`.
pub fn tensor(name: &str, dims: &[usize], first: f64) -> WeightTensor {
    let count = dims.iter().product::<usize>();
    let values: Vec<f64> = (0..count).map(|index| first + index as f64).collect();
    WeightTensor::from_literal(
        name,
        &Literal::floats(DType::F32, dims, &values).expect("one value per element"),
    )
    .expect("a plain f32 tensor")
}

/// A safetensors file of `tensors`.
pub fn save(path: impl AsRef<Path>, tensors: &[WeightTensor]) {
    let named: Vec<(&str, TensorRef<'_>)> =
        tensors.iter().map(|tensor| (tensor.name(), tensor.view())).collect();
    write_file(path, |file, out| safetensors::write(file, out, &named, &[])).expect("a writable folder");
}

/// Bytes of a safetensors file with this header and data.
pub fn safetensors_bytes(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// Bytes of a version 1 npy file with this header and data.
pub fn npy_bytes(header: &str, data: &[u8]) -> Vec<u8> {
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// A PEFT folder with this configuration and these tensors.
pub fn save_adapter(folder: &Path, config: &str, tensors: &[WeightTensor]) {
    std::fs::create_dir_all(folder).expect("a writable folder");
    std::fs::write(folder.join("adapter_config.json"), config).expect("a writable folder");
    save(folder.join("adapter_model.safetensors"), tensors);
}

/// The configuration of a rank-2 adapter with scale 4.
pub const RANK_2: &str =
    r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 8, "bias": "none", "use_dora": false}"#;

/// The factors of a rank-2 update of the 3x4 module `target`.
pub fn factors(target: &str, first: f64) -> [WeightTensor; 2] {
    [
        tensor(&format!("base_model.model.{target}.lora_A.weight"), &[2, 4], first),
        tensor(&format!("base_model.model.{target}.lora_B.weight"), &[3, 2], first),
    ]
}
