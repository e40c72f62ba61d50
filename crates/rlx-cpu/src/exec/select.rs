//! Which kernel runs an anchor whose operands lie as they do.

use super::attention::AttentionStep;
use super::custom::CustomStep;
use super::fft::fft_step;
use super::fold::FoldStep;
use super::grouped::GroupedStep;
use super::index::IndexStep;
use super::lines::LineStep;
use super::matrices::matrix_step;
use super::memory::StepSpans;
use super::pool::PoolStep;
use super::region::Source;
use super::rope::RopeStep;
use super::rows::RowStep;
use super::storage::StorageStep;
use super::view::BoundView;
use super::work::Work;
use crate::kernels::Context;
use rlx_ir::Op;

/// An anchor with its operands and results in memory.
pub struct Site<'a> {
    /// The op, its dims evaluated.
    pub op: &'a Op,
    /// Its operands, in order; operand `n` is read slice `n`.
    pub operands: Vec<BoundView>,
    /// Where the operands are: one that is updated in place is an output.
    pub sources: Vec<Source>,
    /// Its results.
    pub outputs: Vec<BoundView>,
    /// What the step touches.
    pub spans: StepSpans,
}

impl Site<'_> {
    /// Does an operand stand where a result does?
    pub fn in_place(&self) -> bool {
        self.sources.iter().any(|source| matches!(source, Source::Written(_)))
    }
}

/// The kernel for `site`, if there is one.
pub fn select(site: &Site<'_>, context: Context<'_>) -> Option<Box<dyn Work>> {
    if !site.outputs.iter().all(BoundView::is_dense) {
        return None;
    }
    let operands = &site.operands;
    if rlx_ir::lir::updates_first_operand(site.op) {
        return IndexStep::new(site.op, operands, &site.outputs[0]).map(boxed);
    }
    if site.in_place() {
        return None;
    }
    match site.op {
        Op::Attention(op) => {
            let operands: Vec<&BoundView> = operands.iter().collect();
            AttentionStep::new(op, &operands, &site.outputs[0], context).map(boxed)
        }
        Op::Gather(_) | Op::GatherNd(_) | Op::GatherElements(_) | Op::DynamicSlice(_) => {
            IndexStep::new(site.op, operands, &site.outputs[0]).map(boxed)
        }
        Op::Fft(op) => fft_step(op, &operands[0], context),
        Op::DecodeStorage(_) | Op::EncodeStorage(_) => {
            StorageStep::new(&operands[0], &site.outputs[0]).map(boxed)
        }
        Op::GroupedMatMul(op) => GroupedStep::new(op, operands, context).map(boxed),
        Op::Pool(op) => PoolStep::new(op, &operands[0], &site.outputs[0]).map(boxed),
        Op::Reduce(op) => FoldStep::new(op, &operands[0]).map(boxed),
        Op::Custom(op) => CustomStep::new(op, operands).map(boxed),
        Op::Rope(op) => RopeStep::new(op, operands).map(boxed),
        Op::ArgReduce(_) | Op::TopK(_) => LineStep::new(site.op, &operands[0], context).map(boxed),
        op if op.as_cumulative().is_some() => LineStep::new(op, &operands[0], context).map(boxed),
        op => matrix_step(op, operands, &site.outputs)
            .or_else(|| RowStep::new(op, operands, context).map(boxed)),
    }
}

fn boxed(work: impl Work + 'static) -> Box<dyn Work> {
    Box::new(work)
}
