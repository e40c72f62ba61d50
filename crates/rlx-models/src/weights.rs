//! The weights of a model folder under the names that graphs use.
//!
//! Checkpoints differ in a prefix (`bert.`, `transformer.`) and, the oldest
//! ones, in the names of norm parameters (`gamma`, `beta`). Graphs use the names
//! without prefix and with `weight` and `bias`; this maps them to the files'.
//! Bytes stay where they are.

use crate::error::ModelError;
use rlx_ir::{DType, Shape, TensorType};
use rlx_runtime::CompiledGraph;
use rlx_weights::{MappedWeights, WeightLoader, WeightTensor};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// The tensors of a model under canonical names.
#[derive(Clone)]
pub struct ModelWeights {
    loader: Arc<dyn WeightLoader>,
    /// Canonical name to the file's name.
    names: Arc<BTreeMap<String, String>>,
}

impl ModelWeights {
    /// Opens the weights in `folder`; `prefixes` are those that checkpoints of the family use.
    ///
    /// # Errors
    /// Files that are missing or damaged, and two tensors that mean the same.
    pub fn open(folder: &Path, prefixes: &[&str]) -> Result<ModelWeights, ModelError> {
        ModelWeights::of(Arc::new(MappedWeights::open(folder)?), prefixes)
    }

    /// The tensors of `loader`; `prefixes` are those that checkpoints of the family use.
    ///
    /// # Errors
    /// Two tensors that mean the same.
    pub fn of(loader: Arc<dyn WeightLoader>, prefixes: &[&str]) -> Result<ModelWeights, ModelError> {
        let mut names = BTreeMap::new();
        for tensor in loader.tensors() {
            let name = canonical(tensor.name(), prefixes);
            if let Some(other) = names.insert(name, tensor.name().to_string()) {
                return Err(ModelError::DuplicateTensor {
                    file: loader.source().into(),
                    tensor: tensor.name().into(),
                    other,
                });
            }
        }
        Ok(ModelWeights { loader, names: Arc::new(names) })
    }

    /// The weight file, for errors.
    pub fn source(&self) -> &str {
        self.loader.source()
    }

    /// The tensor with canonical name `name`.
    pub fn find(&self, name: &str) -> Option<&WeightTensor> {
        self.loader.find(self.names.get(name)?)
    }

    /// All canonical names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// The type of float tensor `name`, whose shape must be `dims`.
    ///
    /// # Errors
    /// A tensor that is missing, has another shape or does not hold floats.
    pub fn expect(&self, name: &str, dims: &[usize]) -> Result<TensorType, ModelError> {
        let file = || self.source().to_string();
        let expected = Shape::from(dims);
        let Some(tensor) = self.find(name) else {
            let nearest = rlx_ir::nearest_name(name, self.names());
            return Err(ModelError::MissingTensor {
                file: file(),
                tensor: name.into(),
                expected: expected.to_string(),
                nearest: nearest.map(str::to_string),
            });
        };
        if tensor.dims() != dims {
            return Err(ModelError::TensorShape {
                file: file(),
                tensor: tensor.name().into(),
                found: Shape::from(tensor.dims()).to_string(),
                expected: expected.to_string(),
            });
        }
        if !matches!(tensor.dtype(), DType::F32 | DType::F16 | DType::BF16) {
            let found = tensor.dtype().to_string();
            return Err(ModelError::TensorDtype { file: file(), tensor: tensor.name().into(), found });
        }
        Ok(TensorType::new(tensor.dtype(), dims))
    }

    /// Refuses tensors for which `is_foreign` holds.
    ///
    /// # Errors
    /// The first such tensor.
    pub(crate) fn refuse(&self, is_foreign: impl Fn(&str) -> bool) -> Result<(), ModelError> {
        let mut foreign = self.names.iter().filter(|(name, _)| is_foreign(name)).map(|(_, file)| file);
        let Some(first) = foreign.next() else { return Ok(()) };
        Err(ModelError::UnusedTensor {
            file: self.source().into(),
            tensor: first.clone(),
            count: 1 + foreign.count(),
        })
    }

    /// Binds every param of `compiled`, whose names are canonical, without copying.
    ///
    /// # Errors
    /// Params that the files lack, a memory budget that is too small.
    pub fn bind(&self, compiled: &mut CompiledGraph) -> Result<(), ModelError> {
        let name_in_file = |name: &str| self.names.get(name).cloned().unwrap_or_else(|| name.to_string());
        compiled.bind_weights_named(&*self.loader, &name_in_file)?;
        Ok(())
    }
}

impl fmt::Debug for ModelWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelWeights({}, {} tensors)", self.source(), self.names.len())
    }
}

fn canonical(name: &str, prefixes: &[&str]) -> String {
    let name = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    match name.rsplit_once('.') {
        Some((path, "gamma")) => format!("{path}.weight"),
        Some((path, "beta")) => format!("{path}.bias"),
        _ => name.to_string(),
    }
}
