//! Weight files and the weight registry of RLX.
//!
//! Readers and writers for safetensors, npy and npz; [`WeightLoader`], which
//! gives borrowed bytes by name; [`WeightRegistry`], which gives names stable
//! handles, aliases, pins, LoRA adapters and shared packed forms.
//!
//! Files are untrusted: every offset, size, dtype and shape is checked before
//! it is used, and nothing is allocated on the word of a length field. Bytes
//! are borrowed from the file wherever its layout allows. This crate computes
//! nothing with weights.
#![deny(unsafe_code)]

pub mod bytes;
pub mod error;
pub mod lora;
#[cfg(not(target_family = "wasm"))]
pub mod mapped;
#[cfg(not(target_family = "wasm"))]
#[allow(unsafe_code)]
mod mapping;
pub mod npy;
pub mod npz;
#[cfg(not(target_family = "wasm"))]
pub mod output;
mod pairs;
pub mod safetensors;
#[cfg(not(target_family = "wasm"))]
mod shards;
pub mod tensor;
pub mod weight_registry;
pub mod weights;
mod zip;

pub use bytes::WeightBytes;
pub use error::WeightError;
pub use lora::{LoraAdapter, LoraPair};
#[cfg(not(target_family = "wasm"))]
pub use mapped::{FileAccess, LinkPolicy, MappedWeights, OpenOptions};
pub use rlx_ir::TensorRef;
pub use tensor::WeightTensor;
pub use weight_registry::{WeightEntry, WeightHandle, WeightKind, WeightRegistry};
pub use weights::{BytesWeightLoader, WeightLoader};
