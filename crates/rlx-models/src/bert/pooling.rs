//! What stands on top of an encoder: the pooler layer, and sentence embeddings.

use super::Builder;
use crate::block::{Extents, MatrixOrder};
use crate::error::ModelError;
use crate::sentence::{Pooling, SentenceSettings};
use rlx_ir::hir::{HirModule, HirValue};
use rlx_ir::ops::{ActivationKind, ReduceKind};
use rlx_ir::{DType, Graph, Value};

/// Least count and norm that is divided by.
const LEAST_COUNT: f64 = 1e-9;
const LEAST_NORM: f64 = 1e-12;

impl Builder<'_> {
    /// `tanh(w x + b)` of the first position.
    pub(super) fn pooler(&self, module: &mut HirModule, hidden: HirValue) -> Result<(), ModelError> {
        let width = self.config.hidden_size;
        let mut block = self.block("pooler", "pooler");
        let x = block.hidden("hidden", width);
        let first = first_position(&mut block.graph, x, width);
        let y = block.linear(first, "dense", [width, width], MatrixOrder::OutIn);
        let y = block.activation(y, ActivationKind::Tanh);
        block.graph.output("pooler_output", y);
        block.finish(module, [("hidden", hidden)])?;
        module.output("pooler_output", HirValue::block("pooler", "pooler_output"));
        Ok(())
    }

    /// One vector per sequence, over the positions that the mask keeps.
    pub(super) fn pooling(
        &self,
        module: &mut HirModule,
        hidden: HirValue,
        settings: SentenceSettings,
    ) -> Result<(), ModelError> {
        let width = self.config.hidden_size;
        let mut block = self.block("pooling", "pooling");
        let x = block.hidden("hidden", width);
        let mask = block.tokens("attention_mask");
        let g = &mut block.graph;
        let pooled = match settings.pooling {
            Pooling::FirstToken => first_position(g, x, width),
            Pooling::Mean => weighted_sum(g, x, mask, width, false),
            Pooling::MeanSqrtLength => weighted_sum(g, x, mask, width, true),
            Pooling::Max => greatest(g, x, mask),
        };
        let y = if settings.normalise { unit_length(g, pooled) } else { pooled };
        g.output("sentence_embedding", y);
        let mask = HirValue::input("attention_mask");
        block.finish(module, [("hidden", hidden), ("attention_mask", mask)])?;
        module.output("sentence_embedding", HirValue::block("pooling", "sentence_embedding"));
        Ok(())
    }
}

fn first_position(g: &mut Graph, x: Value, width: usize) -> Value {
    let first = g.narrow_at(x, 1, 0, 1);
    g.view(first, [Extents::batch(), width.into()])
}

/// The sum over kept positions, divided by their count or its root.
fn weighted_sum(g: &mut Graph, x: Value, mask: Value, width: usize, root: bool) -> Value {
    let zero = g.scalar(DType::I64, 0.0);
    let keep = g.compare_ne(mask, zero);
    let keep = g.cast(keep, DType::F32);
    let count = g.reduce(keep, ReduceKind::Sum, vec![1usize], true);
    let least = g.scalar(DType::F32, LEAST_COUNT);
    let count = g.maximum(count, least);
    let divisor = if root { g.sqrt(count) } else { count };
    let row = g.unsqueeze(keep, 1);
    let sum = g.mm(row, x);
    let sum = g.view(sum, [Extents::batch(), width.into()]);
    g.div(sum, divisor)
}

/// The greatest value of each feature over kept positions.
fn greatest(g: &mut Graph, x: Value, mask: Value) -> Value {
    let zero = g.scalar(DType::I64, 0.0);
    let keep = g.compare_ne(mask, zero);
    let keep = g.unsqueeze(keep, -1);
    let lowest = g.scalar(DType::F32, -1e9);
    let kept = g.where_(keep, x, lowest);
    g.reduce(kept, ReduceKind::Max, vec![1usize], false)
}

/// `x` divided by its Euclidean norm.
fn unit_length(g: &mut Graph, x: Value) -> Value {
    let squares = g.mul(x, x);
    let sum = g.reduce(squares, ReduceKind::Sum, vec![1usize], true);
    let norm = g.sqrt(sum);
    let least = g.scalar(DType::F32, LEAST_NORM);
    let norm = g.maximum(norm, least);
    g.div(x, norm)
}
