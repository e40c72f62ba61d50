//! Loading by name: the [`WeightLoader`] trait and the loader over owned bytes.
//!
//! A loader lends bytes and never copies them; looking a name up takes constant
//! time; names come in the order of the file. This module reads no files:
//! `mapped` does, where there are files.
#![forbid(unsafe_code)]

use crate::bytes::WeightBytes;
use crate::error::WeightError;
use crate::tensor::WeightTensor;
use crate::{npy, npz, safetensors};
use rlx_ir::{Literal, TensorRef};
use std::collections::HashMap;
use std::sync::Arc;

/// Tensors by name.
pub trait WeightLoader: Send + Sync {
    /// What errors call this source: a path or a label.
    fn source(&self) -> &str;

    /// All tensors, in the order of the file; shards in the order of their names.
    fn tensors(&self) -> &[WeightTensor];

    /// The tensor called `name`, in constant time.
    fn find(&self, name: &str) -> Option<&WeightTensor>;

    /// All names, in the order of [`WeightLoader::tensors`].
    fn names(&self) -> Vec<&str> {
        self.tensors().iter().map(WeightTensor::name).collect()
    }

    /// Dtype, extents and borrowed bytes of `name`.
    ///
    /// # Errors
    /// [`WeightError::UnknownTensor`], with the closest name there is.
    fn tensor(&self, name: &str) -> Result<TensorRef<'_>, WeightError> {
        self.find(name).map(WeightTensor::view).ok_or_else(|| WeightError::UnknownTensor {
            file: self.source().into(),
            tensor: name.into(),
            nearest: rlx_ir::nearest_name(name, self.tensors().iter().map(WeightTensor::name))
                .map(str::to_string),
        })
    }

    /// The borrowed bytes of `name`: row-major, little-endian, any alignment.
    ///
    /// # Errors
    /// [`WeightError::UnknownTensor`], with the closest name there is.
    fn tensor_bytes(&self, name: &str) -> Result<&[u8], WeightError> {
        self.tensor(name).map(|tensor| tensor.bytes)
    }
}

/// Tensors with their index by name: what every loader here is made of.
#[derive(Debug)]
pub(crate) struct TensorTable {
    source: String,
    tensors: Vec<WeightTensor>,
    by_name: HashMap<Arc<str>, usize>,
}

impl TensorTable {
    pub(crate) fn new(source: &str, tensors: Vec<WeightTensor>) -> Result<TensorTable, WeightError> {
        let mut by_name = HashMap::with_capacity(tensors.len());
        for (index, tensor) in tensors.iter().enumerate() {
            if by_name.insert(tensor.shared_name().clone(), index).is_some() {
                return Err(WeightError::DuplicateTensor {
                    file: source.into(),
                    tensor: tensor.name().into(),
                    other: "the same source".into(),
                });
            }
        }
        Ok(TensorTable { source: source.into(), tensors, by_name })
    }
}

impl WeightLoader for TensorTable {
    fn source(&self) -> &str {
        &self.source
    }
    fn tensors(&self) -> &[WeightTensor] {
        &self.tensors
    }
    fn find(&self, name: &str) -> Option<&WeightTensor> {
        self.by_name.get(name).map(|&index| &self.tensors[index])
    }
}

/// A loader over bytes in memory; works on every target.
#[derive(Debug)]
pub struct BytesWeightLoader(TensorTable);

impl BytesWeightLoader {
    /// Named literals; their bytes are shared, not copied.
    ///
    /// # Errors
    /// A name twice, or a block-quantised literal that ends inside a block.
    pub fn from_pairs<N: AsRef<str>>(
        pairs: impl IntoIterator<Item = (N, Literal)>,
    ) -> Result<BytesWeightLoader, WeightError> {
        let tensors =
            pairs.into_iter().map(|(name, literal)| WeightTensor::from_literal(name.as_ref(), &literal));
        BytesWeightLoader::from_tensors(tensors.collect::<Result<_, _>>()?)
    }

    /// Named tensors.
    ///
    /// # Errors
    /// A name twice.
    pub fn from_tensors(tensors: Vec<WeightTensor>) -> Result<BytesWeightLoader, WeightError> {
        TensorTable::new("memory", tensors).map(BytesWeightLoader)
    }

    /// A whole safetensors file.
    ///
    /// # Errors
    /// As [`safetensors::read`].
    pub fn from_safetensors(bytes: impl Into<WeightBytes>) -> Result<BytesWeightLoader, WeightError> {
        BytesWeightLoader::from_tensors(safetensors::read("memory", &bytes.into())?.tensors)
    }

    /// A whole npz archive that may unpack to at most `limit` bytes.
    ///
    /// # Errors
    /// As [`npz::read`].
    pub fn from_npz(bytes: impl Into<WeightBytes>, limit: u64) -> Result<BytesWeightLoader, WeightError> {
        BytesWeightLoader::from_tensors(npz::read("memory", &bytes.into(), limit)?)
    }

    /// A whole npy file, whose one array is to be called `name`.
    ///
    /// # Errors
    /// As [`npy::read`].
    pub fn from_npy(name: &str, bytes: impl Into<WeightBytes>) -> Result<BytesWeightLoader, WeightError> {
        BytesWeightLoader::from_tensors(vec![npy::read("memory", name, &bytes.into())?])
    }
}

impl WeightLoader for BytesWeightLoader {
    fn source(&self) -> &str {
        self.0.source()
    }
    fn tensors(&self) -> &[WeightTensor] {
        self.0.tensors()
    }
    fn find(&self, name: &str) -> Option<&WeightTensor> {
        self.0.find(name)
    }
}
