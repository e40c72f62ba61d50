//! The body of one block: a graph whose params are checked against the files.
//!
//! Params keep the dtype of the file and are cast to `f32` in the graph, so the
//! cast runs once, when weights are bound. The first tensor that does not fit is
//! kept and reported when the block ends.

use crate::error::ModelError;
use crate::weights::ModelWeights;
use rlx_ir::hir::{HirModule, HirValue};
use rlx_ir::ops::{Activation, ActivationKind};
use rlx_ir::{DType, Dim, Graph, SymbolBounds, TensorType, Value};

/// How a weight matrix lies in its file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MatrixOrder {
    /// `[out, in]`, as `Linear` stores it.
    OutIn,
    /// `[in, out]`, as `Conv1D` stores it.
    InOut,
}

/// Symbols of a model and their bounds.
#[derive(Clone, Debug)]
pub(crate) struct Extents {
    /// Most positions of a sequence.
    pub(crate) positions: usize,
}

impl Extents {
    /// The batch.
    pub(crate) fn batch() -> Dim {
        Dim::symbol("B")
    }
    /// The sequence.
    pub(crate) fn sequence() -> Dim {
        Dim::symbol("S")
    }
}

/// A block being built.
pub(crate) struct Block<'a> {
    /// Its body.
    pub(crate) graph: Graph,
    path: &'a str,
    weights: &'a ModelWeights,
    failure: Option<ModelError>,
}

impl<'a> Block<'a> {
    /// A block at `path`; `kind` names the body, which equal blocks share.
    pub(crate) fn new(kind: &str, path: &'a str, weights: &'a ModelWeights, extents: &Extents) -> Block<'a> {
        let mut graph = Graph::new(kind);
        graph.bound_symbol("B", SymbolBounds { min: 1, max: None });
        graph.bound_symbol("S", SymbolBounds { min: 1, max: Some(extents.positions as i64) });
        Block { graph, path, weights, failure: None }
    }

    /// A hidden state `[B, S, width]`.
    pub(crate) fn hidden(&mut self, name: &str, width: usize) -> Value {
        self.graph.input_f32(name, vec![Extents::batch(), Extents::sequence(), width.into()])
    }

    /// Integers `[B, S]`.
    pub(crate) fn tokens(&mut self, name: &str) -> Value {
        self.graph.input(name, TensorType::new(DType::I64, vec![Extents::batch(), Extents::sequence()]))
    }

    /// Param `name` of the block, as the file has it. A name that starts with `/` is that of the module.
    pub(crate) fn param(&mut self, name: &str, dims: &[usize]) -> Value {
        let full = match name.strip_prefix('/') {
            Some(global) => global.to_string(),
            None if self.path.is_empty() => name.to_string(),
            None => format!("{}.{name}", self.path),
        };
        match self.weights.expect(&full, dims) {
            Ok(ty) => self.graph.param(name, ty),
            Err(error) => {
                self.failure.get_or_insert(error);
                Value::POISON
            }
        }
    }

    /// Param `name` in `f32`.
    pub(crate) fn param_f32(&mut self, name: &str, dims: &[usize]) -> Value {
        let value = self.param(name, dims);
        self.graph.cast_to(value, DType::F32)
    }

    /// `x w + b` with `name.weight` of `[input, output]` extents in `order`, and `name.bias`.
    pub(crate) fn linear(
        &mut self,
        x: Value,
        name: &str,
        [input, output]: [usize; 2],
        order: MatrixOrder,
    ) -> Value {
        let dims = if order == MatrixOrder::OutIn { [output, input] } else { [input, output] };
        let weight = self.param_f32(&format!("{name}.weight"), &dims);
        let bias = self.param_f32(&format!("{name}.bias"), &[output]);
        let product = self.graph.matmul(x, weight, false, order == MatrixOrder::OutIn);
        self.graph.add(product, bias)
    }

    /// Layer norm over the last axis of a rank-3 value, with `name.weight` and `name.bias`.
    pub(crate) fn layer_norm(&mut self, x: Value, name: &str, width: usize, eps: f64) -> Value {
        let gamma = self.param_f32(&format!("{name}.weight"), &[width]);
        let beta = self.param_f32(&format!("{name}.bias"), &[width]);
        self.graph.layer_norm(x, Some(gamma), Some(beta), vec![2usize], eps)
    }

    /// Rows of table `name` at integer `indices`, in `f32`.
    pub(crate) fn embedding(&mut self, name: &str, dims: [usize; 2], indices: Value) -> Value {
        let table = self.param(name, &dims);
        let rows = self.graph.gather(table, indices, 0usize);
        self.graph.cast_to(rows, DType::F32)
    }

    /// An elementwise function.
    pub(crate) fn activation(&mut self, x: Value, kind: ActivationKind) -> Value {
        self.graph.push(Activation::of(kind), &[x])
    }

    /// `[B, S, width]` as `[B, S, heads, width / heads]`.
    pub(crate) fn heads(&mut self, x: Value, heads: usize, width: usize) -> Value {
        let dims = [Extents::batch(), Extents::sequence(), heads.into(), (width / heads).into()];
        self.graph.view(x, dims)
    }

    /// `[B, S, heads, depth]` as `[B, S, width]`.
    pub(crate) fn merge(&mut self, x: Value, width: usize) -> Value {
        self.graph.view(x, [Extents::batch(), Extents::sequence(), width.into()])
    }

    /// Adds the block to `module`.
    ///
    /// # Errors
    /// The first weight that does not fit, or what the builder refused.
    pub(crate) fn finish<'b>(
        self,
        module: &mut HirModule,
        inputs: impl IntoIterator<Item = (&'b str, HirValue)>,
    ) -> Result<(), ModelError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let body = module.body(self.graph.finish()?);
        module.block(self.path, body, inputs);
        Ok(())
    }
}
