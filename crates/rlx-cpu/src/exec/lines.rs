//! Ops along one axis of a dense operand: best positions, the best few, running sums.

use super::fold::around;
use super::view::BoundView;
use super::work::{Call, Work};
use crate::kernels::order::{Best, Ordered, Position, Top, best_position, top, top_scratch_bytes};
use crate::kernels::scan::{Running, Scan, ScanElement, scan};
use crate::kernels::{Context, KernelError, cast_bytes, cast_bytes_mut};
use half::{bf16, f16};
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

/// Something to do for an element type that is ordered.
macro_rules! with_ordered {
    ($dtype:expr, $function:ident($($argument:expr),*)) => {
        match $dtype {
            DType::F32 => $function::<f32>($($argument),*),
            DType::F16 => $function::<f16>($($argument),*),
            DType::BF16 => $function::<bf16>($($argument),*),
            DType::F64 => $function::<f64>($($argument),*),
            DType::I8 => $function::<i8>($($argument),*),
            DType::I16 => $function::<i16>($($argument),*),
            DType::I32 => $function::<i32>($($argument),*),
            DType::I64 => $function::<i64>($($argument),*),
            DType::U16 => $function::<u16>($($argument),*),
            DType::U32 => $function::<u32>($($argument),*),
            DType::U64 => $function::<u64>($($argument),*),
            _ => $function::<u8>($($argument),*),
        }
    };
}

/// Something to do for the element type of positions.
macro_rules! with_positions {
    ($step:expr, $function:ident::<$t:ty>($($argument:expr),*)) => {
        match $step.positions {
            DType::I32 => $function::<$t, i32>($($argument),*),
            DType::U32 => $function::<$t, u32>($($argument),*),
            _ => $function::<$t, i64>($($argument),*),
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
        CumulativeKind::Sum => Running::Sum,
        CumulativeKind::Prod => Running::Product,
        CumulativeKind::Max => Running::Maximum,
        CumulativeKind::Min => Running::Minimum,
        CumulativeKind::LogSumExp => Running::LogSumExp,
    };
    Scan { running, exclusive: op.exclusive, reverse: op.reverse }
}

fn find_best<T: Ordered>(step: &LineStep, best: Best, call: Call<'_, '_>) -> Result<(), KernelError> {
    with_positions!(step, write_best::<T>(step, best, call))
}

fn write_best<T: Ordered, P: Position>(
    step: &LineStep,
    best: Best,
    call: Call<'_, '_>,
) -> Result<(), KernelError> {
    let input = cast_bytes::<T>("operand", call.reads[0])?;
    best_position::<T, P>(call.context, best, step.extents, input, cast_bytes_mut("result", call.writes[0])?)
}

fn find_few<T: Ordered>(step: &LineStep, few: Top, call: Call<'_, '_>) -> Result<(), KernelError> {
    with_positions!(step, write_few::<T>(step, few, call))
}

fn write_few<T: Ordered, P: Position>(
    step: &LineStep,
    few: Top,
    call: Call<'_, '_>,
) -> Result<(), KernelError> {
    let input = cast_bytes::<T>("operand", call.reads[0])?;
    let [values, positions] = call.writes else { return Ok(()) };
    let results = (cast_bytes_mut::<T>("values", values)?, cast_bytes_mut::<P>("positions", positions)?);
    top(call.context, few, step.extents, input, results, call.scratch)
}

fn few_scratch<T: Ordered>(extent: usize) -> usize {
    top_scratch_bytes::<T>(extent)
}

fn run_scan<T: ScanElement>(step: &LineStep, what: Scan, call: Call<'_, '_>) -> Result<(), KernelError> {
    let input = cast_bytes::<T>("operand", call.reads[0])?;
    scan(call.context, what, step.extents, input, cast_bytes_mut("result", call.writes[0])?)
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
            Line::Top(_) => self.threads * with_ordered!(self.dtype, few_scratch(self.extents[1])),
            _ => 0,
        }
    }

    fn run(&self, call: Call<'_, '_>) -> Result<(), String> {
        let result = match &self.line {
            Line::Best(_) if self.extents[1] == 0 => {
                return Err("the axis is empty: it has no best element".into());
            }
            Line::Best(best) => with_ordered!(self.dtype, find_best(self, *best, call)),
            Line::Top(few) => with_ordered!(self.dtype, find_few(self, *few, call)),
            Line::Scan(what) => match self.dtype {
                DType::F32 => run_scan::<f32>(self, *what, call),
                DType::F64 => run_scan::<f64>(self, *what, call),
                DType::I8 => run_scan::<i8>(self, *what, call),
                DType::I16 => run_scan::<i16>(self, *what, call),
                DType::I32 => run_scan::<i32>(self, *what, call),
                DType::I64 => run_scan::<i64>(self, *what, call),
                DType::U16 => run_scan::<u16>(self, *what, call),
                DType::U32 => run_scan::<u32>(self, *what, call),
                DType::U64 => run_scan::<u64>(self, *what, call),
                _ => run_scan::<u8>(self, *what, call),
            },
        };
        result.map_err(|error| error.to_string())
    }
}
