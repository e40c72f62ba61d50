//! Ops along one axis of a dense operand: best positions, the best few, running sums.

use super::fold::around;
use super::view::BoundView;
use super::work::{Call, Work};
use crate::kernels::combine::{Combination, Element};
use crate::kernels::order::{Best, Ordered, Top, best_position, top, top_scratch_bytes};
use crate::kernels::scan::{Scan, scan};
use crate::kernels::{Context, KernelError, cast_bytes, cast_bytes_mut};
use rlx_ir::ops::{ArgReduce, ArgReduceKind, Cumulative, CumulativeKind, TopK};
use rlx_ir::{DType, Op};

enum Line {
    Best(Best),
    Top(Top),
    Scan(Scan),
}

/// An op along one axis, with concrete extents.
pub struct LineStep {
    line: Line,
    dtype: DType,
    /// Dtype of positions.
    positions: DType,
    extents: [usize; 3],
    threads: usize,
}

/// Evaluates an expression with a name for the element type of positions.
macro_rules! with_positions {
    ($dtype:expr, $p:ident => $body:expr) => {
        match $dtype {
            DType::I32 => {
                type $p = i32;
                $body
            }
            DType::U32 => {
                type $p = u32;
                $body
            }
            _ => {
                type $p = i64;
                $body
            }
        }
    };
}

impl LineStep {
    /// The kernel for `op`, if its operand lies as it needs it.
    pub fn new(op: &Op, operand: &BoundView, context: Context<'_>) -> Option<LineStep> {
        let dtype = operand.dtype;
        let wide = matches!(dtype, DType::F32 | DType::F64) || dtype.is_int();
        let ordered = wide || matches!(dtype, DType::F16 | DType::BF16 | DType::Bool);
        let (line, axis, positions) = match op {
            Op::ArgReduce(op) => (Line::Best(best(op)), op.axis, op.dtype),
            Op::TopK(op) => (Line::Top(few(op)?), op.axis, op.dtype),
            // Running sums of narrow floats would be rounded at every element: in `f32` only.
            _ if !wide => return None,
            _ => {
                let op = op.as_cumulative()?;
                (Line::Scan(running(&op)), op.axis, DType::I64)
            }
        };
        if !operand.is_dense() || !ordered || dtype.size_of().is_none() {
            return None;
        }
        let extents = around(&operand.dims, axis, axis);
        Some(LineStep { line, dtype, positions, extents, threads: context.pool().threads() })
    }
}

fn best(op: &ArgReduce) -> Best {
    Best { largest: op.kind == ArgReduceKind::Max, last: op.select_last }
}

fn few(op: &TopK) -> Option<Top> {
    let count = usize::try_from(op.k.as_static()?).ok()?;
    Some(Top { count, largest: op.largest, sorted: op.sorted })
}

fn running(op: &Cumulative) -> Scan {
    let running = match op.kind {
        CumulativeKind::Sum => Combination::Sum,
        CumulativeKind::Prod => Combination::Product,
        CumulativeKind::Max => Combination::Maximum,
        CumulativeKind::Min => Combination::Minimum,
        CumulativeKind::LogSumExp => Combination::LogSumExp,
    };
    Scan { running, exclusive: op.exclusive, reverse: op.reverse }
}

impl LineStep {
    fn best<T: Ordered>(&self, best: Best, call: Call<'_, '_>) -> Result<(), KernelError> {
        let (input, output) = (cast_bytes::<T>("operand", call.reads[0])?, &mut *call.writes[0]);
        with_positions!(self.positions, P => {
            best_position::<T, P>(call.context, best, self.extents, input, cast_bytes_mut("result", output)?)
        })
    }

    fn few<T: Ordered>(&self, few: Top, call: Call<'_, '_>) -> Result<(), KernelError> {
        let input = cast_bytes::<T>("operand", call.reads[0])?;
        let [values, positions] = call.writes else { return Ok(()) };
        let values = cast_bytes_mut::<T>("values", values)?;
        with_positions!(self.positions, P => {
            let results = (values, cast_bytes_mut::<P>("positions", positions)?);
            top(call.context, few, self.extents, input, results, call.scratch)
        })
    }

    fn scan<T: Element>(&self, what: Scan, call: Call<'_, '_>) -> Result<(), KernelError> {
        let input = cast_bytes::<T>("operand", call.reads[0])?;
        scan(call.context, what, self.extents, input, cast_bytes_mut("result", call.writes[0])?)
    }
}

impl Work for LineStep {
    fn name(&self) -> &'static str {
        match self.line {
            Line::Best(_) => "arg_reduce",
            Line::Top(_) => "top_k",
            Line::Scan(_) => "scan",
        }
    }

    fn scratch(&self) -> usize {
        match self.line {
            Line::Top(_) => {
                let extent = self.extents[1];
                let one = with_element!(self.dtype, [F32 F64 F16 BF16], T => top_scratch_bytes::<T>(extent));
                self.threads * one
            }
            _ => 0,
        }
    }

    fn run(&self, call: Call<'_, '_>) -> Result<(), String> {
        let result = match &self.line {
            Line::Best(_) if self.extents[1] == 0 => {
                return Err("the axis is empty: it has no best element".into());
            }
            Line::Best(best) => {
                with_element!(self.dtype, [F32 F64 F16 BF16], T => self.best::<T>(*best, call))
            }
            Line::Top(few) => with_element!(self.dtype, [F32 F64 F16 BF16], T => self.few::<T>(*few, call)),
            Line::Scan(what) => with_element!(self.dtype, [F32 F64], T => self.scan::<T>(*what, call)),
        };
        result.map_err(|error| error.to_string())
    }
}
