//! LoRA adapters in the PEFT format: a folder with `adapter_config.json` and
//! `adapter_model.safetensors`.
//!
//! Reads plain LoRA on linear, embedding and convolution modules, with rank and
//! alpha patterns and rank-stabilised scaling. What would change the result and
//! is not supported (DoRA, trained biases, saved modules, initialisations that
//! change base weights, ...) is refused, never ignored.
#![forbid(unsafe_code)]

mod config;

use crate::error::WeightError;
use crate::tensor::{WeightTensor, type_text};
use crate::weights::WeightLoader;
use rlx_ir::DTypeClass;
use std::collections::HashSet;

/// The two factors of one module's update, `scale * B A`.
#[derive(Clone, Debug)]
pub struct LoraPair {
    target: String,
    a: WeightTensor,
    b: WeightTensor,
    scale: f32,
}

impl LoraPair {
    /// A pair for module `target`: `a` is `[rank, in, ...]`, `b` is `[out, rank, ...]`.
    ///
    /// # Errors
    /// [`WeightError::AdapterTensor`] when dtypes differ, a factor has fewer than
    /// two axes, or the ranks differ.
    pub fn new(target: &str, a: WeightTensor, b: WeightTensor, scale: f32) -> Result<LoraPair, WeightError> {
        LoraPair::from_file("memory", target, a, b, scale)
    }

    fn from_file(
        file: &str,
        target: &str,
        a: WeightTensor,
        b: WeightTensor,
        scale: f32,
    ) -> Result<LoraPair, WeightError> {
        let fits = a.dims().len() >= 2 && b.dims().len() == a.dims().len() && b.dims()[1] == a.dims()[0];
        if !fits || a.dtype() != b.dtype() {
            return Err(WeightError::AdapterTensor {
                file: file.into(),
                tensor: b.name().into(),
                found: type_text(b.dtype(), b.dims()),
                expected: format!("[out, rank] to follow {} as [rank, in]", type_text(a.dtype(), a.dims())),
            });
        }
        Ok(LoraPair { target: target.into(), a, b, scale })
    }

    /// Module path, as `layers.0.self_attn.q_proj`.
    pub fn target(&self) -> &str {
        &self.target
    }
    /// The factor applied first, `[rank, in]`.
    pub fn a(&self) -> &WeightTensor {
        &self.a
    }
    /// The factor applied second, `[out, rank]`.
    pub fn b(&self) -> &WeightTensor {
        &self.b
    }
    /// Rows of A and columns of B.
    pub fn rank(&self) -> usize {
        self.a.dims()[0]
    }
    /// Factor on the product.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// Refuses a base weight of other extents: `[out, in]`, or transposed as
    /// some models keep it and as embeddings are. Weights packed as integers
    /// and convolutions do not show their extents and pass.
    pub(crate) fn refuse_misfit(&self, adapter: &str, base: &WeightTensor) -> Result<(), WeightError> {
        let readable = matches!(base.dtype().class(), DTypeClass::Float | DTypeClass::Block);
        let (&[rows, columns], &[out, _], &[_, inner]) = (base.dims(), self.b.dims(), self.a.dims()) else {
            return Ok(());
        };
        if !readable || [rows, columns] == [out, inner] || [columns, rows] == [out, inner] {
            return Ok(());
        }
        Err(WeightError::AdapterTensor {
            file: adapter.into(),
            tensor: self.target.clone(),
            found: format!("an update of [{out}, {inner}]"),
            expected: format!("one of [{rows}, {columns}] as `{}`", base.name()),
        })
    }
}

/// A LoRA adapter: one pair per adapted module.
#[derive(Clone, Debug)]
pub struct LoraAdapter {
    pairs: Vec<LoraPair>,
}

impl LoraAdapter {
    /// An adapter of `pairs`.
    ///
    /// # Errors
    /// [`WeightError::DuplicateTensor`] when two pairs are for one module.
    pub fn new(pairs: Vec<LoraPair>) -> Result<LoraAdapter, WeightError> {
        let mut seen = HashSet::new();
        match pairs.iter().find(|pair| !seen.insert(&pair.target)) {
            Some(twice) => Err(WeightError::DuplicateTensor {
                file: "memory".into(),
                tensor: twice.target.clone(),
                other: "the same adapter".into(),
            }),
            None => Ok(LoraAdapter { pairs }),
        }
    }

    /// The pairs, in the order of their file.
    pub fn pairs(&self) -> &[LoraPair] {
        &self.pairs
    }

    /// Opens a PEFT folder.
    ///
    /// # Errors
    /// A missing file, and as [`LoraAdapter::from_parts`].
    #[cfg(not(target_family = "wasm"))]
    pub fn open(
        folder: impl AsRef<std::path::Path>,
        options: &crate::mapped::OpenOptions,
    ) -> Result<LoraAdapter, WeightError> {
        let folder = folder.as_ref();
        let blamed = folder.display().to_string();
        let path_of = |name| crate::shards::contained(&blamed, folder, name, options.links);
        let path = path_of("adapter_config.json")?;
        let text = crate::mapped::read_small(&path, "adapter configuration", MAX_CONFIG_BYTES)?;
        let weights = path_of("adapter_model.safetensors")?;
        let weights = crate::mapped::MappedWeights::open_with(weights, options)?;
        LoraAdapter::from_parts(&path.display().to_string(), &text, &weights)
    }

    /// An adapter from the text of its configuration, which errors call `file`,
    /// and its tensors.
    ///
    /// # Errors
    /// A configuration that is damaged or not plain LoRA, an unknown tensor, a
    /// factor without its partner, or a rank other than configured.
    pub fn from_parts(
        file: &str,
        config: &[u8],
        weights: &dyn WeightLoader,
    ) -> Result<LoraAdapter, WeightError> {
        let config = config::Config::parse(file, config)?;
        let mut pairs = Vec::new();
        for tensor in weights.tensors() {
            let factor = Factor::of(weights.source(), tensor)?;
            let partner = weights.find(&factor.partner).ok_or_else(|| WeightError::AdapterTensor {
                file: weights.source().into(),
                tensor: tensor.name().into(),
                found: "no partner".into(),
                expected: format!("`{}` beside it", factor.partner),
            })?;
            if factor.is_a {
                pairs.push(config.pair(weights.source(), factor.module, tensor, partner)?);
            }
        }
        LoraAdapter::new(pairs)
    }
}

/// Longest configuration file that is read.
#[cfg(not(target_family = "wasm"))]
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// PEFT wraps the model; its own names lie behind this.
const WRAPPER: &str = "base_model.model.";

/// Spellings of the factors' names after the module path.
const FACTORS: [(&str, &str); 2] =
    [(".lora_A.weight", ".lora_B.weight"), (".lora_embedding_A", ".lora_embedding_B")];

/// What the name of an adapter tensor says.
struct Factor<'a> {
    module: &'a str,
    is_a: bool,
    /// Name of the other factor.
    partner: String,
}

impl<'a> Factor<'a> {
    fn of(file: &str, tensor: &'a WeightTensor) -> Result<Factor<'a>, WeightError> {
        let name = tensor.name();
        let found = FACTORS.iter().find_map(|(a, b)| {
            let (path, is_a) = match (name.strip_suffix(a), name.strip_suffix(b)) {
                (Some(path), _) => (path, true),
                (None, path) => (path?, false),
            };
            let partner = format!("{path}{}", if is_a { b } else { a });
            Some(Factor { module: path.strip_prefix(WRAPPER)?, is_a, partner })
        });
        found.ok_or_else(|| WeightError::AdapterTensor {
            file: file.into(),
            tensor: name.into(),
            found: "an unknown kind of tensor".into(),
            expected: format!("{WRAPPER}MODULE.lora_A.weight or its like"),
        })
    }
}
