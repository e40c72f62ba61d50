//! The binding manifest: where each input, param, state and output is.
//!
//! Read off LIR, and what an executable really uses: the offsets in it are the
//! running offsets.

use super::{ArenaLayout, BufferId, BufferKind, IoEntry, LirModule};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::shape::Shape;
use std::collections::{BTreeMap, BTreeSet};

/// Where a named tensor lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Home {
    /// In the arena; offset and size in bytes where the extents are known.
    Arena(Option<(usize, usize)>),
    /// In the weight's own memory: a mapped file or shared bytes.
    Mapped,
    /// In a packed form that the prepare stage made.
    Packed,
    /// In memory that lives between runs.
    State,
    /// In the caller's memory.
    Caller,
}

/// One entry of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoBindingEntry {
    /// Name in the graph.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Extents, maybe symbolic.
    pub shape: Shape,
    /// Number of elements.
    pub elements: Dim,
    /// Size in bytes.
    pub byte_size: Dim,
    /// Where it lives.
    pub home: Home,
    /// Does it share the memory of another entry?
    pub is_view: bool,
}

/// Params that share a dotted prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightBlock {
    /// The prefix.
    pub prefix: String,
    /// Names of the params, sorted.
    pub params: Vec<String>,
    /// Their bytes.
    pub bytes: Dim,
}

/// Where everything a caller names is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindingManifest {
    /// Inputs, in order.
    pub inputs: Vec<IoBindingEntry>,
    /// Params, in order.
    pub params: Vec<IoBindingEntry>,
    /// States, in order.
    pub states: Vec<IoBindingEntry>,
    /// Outputs, in order.
    pub outputs: Vec<IoBindingEntry>,
}

impl BindingManifest {
    /// Reads the manifest off `module`, with offsets where the arena layout is known.
    pub fn from_lir(module: &LirModule, layout: Option<&ArenaLayout>) -> BindingManifest {
        let released = module.released_params();
        let entry = |entry: &IoEntry| binding(module, layout, entry, &released);
        let list = |entries: &[IoEntry]| entries.iter().map(entry).collect();
        BindingManifest {
            inputs: list(&module.io.inputs),
            params: list(&module.io.params),
            states: list(&module.io.states),
            outputs: list(&module.io.outputs),
        }
    }

    /// Names of the params, in order.
    pub fn param_names(&self) -> impl Iterator<Item = &str> {
        self.params.iter().map(|entry| entry.name.as_str())
    }

    /// Names of the inputs, in order.
    pub fn input_names(&self) -> impl Iterator<Item = &str> {
        self.inputs.iter().map(|entry| entry.name.as_str())
    }

    /// Bytes of one param.
    pub fn param_byte_size(&self, name: &str) -> Option<&Dim> {
        self.params.iter().find(|entry| entry.name == name).map(|entry| &entry.byte_size)
    }

    /// Bytes of all params, those that share memory counted once.
    pub fn total_param_bytes(&self) -> Dim {
        self.params
            .iter()
            .filter(|entry| !entry.is_view)
            .fold(Dim::from(0), |sum, entry| sum + entry.byte_size.clone())
    }

    /// Params grouped by the first `depth` parts of their dotted names, sorted.
    pub fn weight_blocks(&self, depth: usize) -> Vec<WeightBlock> {
        let mut blocks: BTreeMap<String, WeightBlock> = BTreeMap::new();
        for entry in &self.params {
            let prefix = entry.name.split('.').take(depth).collect::<Vec<_>>().join(".");
            let block = blocks.entry(prefix.clone()).or_insert_with(|| WeightBlock {
                prefix,
                params: vec![],
                bytes: Dim::from(0),
            });
            block.params.push(entry.name.clone());
            if !entry.is_view {
                block.bytes = block.bytes.clone() + entry.byte_size.clone();
            }
        }
        let mut blocks: Vec<_> = blocks.into_values().collect();
        for block in &mut blocks {
            block.params.sort();
        }
        blocks
    }
}

fn binding(
    module: &LirModule,
    layout: Option<&ArenaLayout>,
    entry: &IoEntry,
    released: &BTreeSet<BufferId>,
) -> IoBindingEntry {
    let home = match module.buffer(entry.buffer).kind {
        BufferKind::Temporary | BufferKind::Input | BufferKind::Output => Home::Arena(
            layout.and_then(|layout| layout.places.get(entry.buffer.0 as usize).copied().flatten()),
        ),
        BufferKind::Param if released.contains(&entry.buffer) => Home::Packed,
        BufferKind::Param => Home::Mapped,
        BufferKind::Prepared => Home::Packed,
        BufferKind::State => Home::State,
        BufferKind::Constant(_) => Home::Mapped,
    };
    IoBindingEntry {
        name: entry.name.clone(),
        dtype: entry.ty.dtype,
        shape: entry.ty.shape.clone(),
        elements: entry.ty.shape.num_elements(),
        byte_size: entry.ty.size_bytes(),
        home,
        is_view: false,
    }
}
