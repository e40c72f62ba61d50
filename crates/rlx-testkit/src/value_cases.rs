//! Values at and beyond the bounds of integer operands, for every sample of every op.
//!
//! What is expected follows from the ranges that ops declare; whoever runs a case must fault on it exactly where it
//! says. Integer operands without a declared range take any value.

use rlx_ir::interpret::Tensors;
use rlx_ir::op::Sample;
use rlx_ir::{DType, Graph, Literal, Number, Op, OpKind, TensorType, ValueRange};

/// A sample with one integer changed.
#[derive(Clone, Debug)]
pub struct ValueCase {
    /// Names the sample, the operand, the element and the value.
    pub label: String,
    /// The op.
    pub sample: Sample<Op>,
    /// The operands.
    pub operands: Vec<Literal>,
    /// The changed operand.
    pub operand: usize,
    /// The changed element, in row-major order.
    pub position: usize,
    /// Is the value one that the op does not take?
    pub faults: bool,
    /// The operands with the value moved to the nearest legal one; `None` where there is none.
    pub clamped: Option<Vec<Literal>>,
}

impl ValueCase {
    /// The graph of the sample, as [`Sample::graph`] makes it.
    pub fn graph(&self) -> Graph {
        self.sample.graph(0).0
    }

    /// `operands` by the names of the graph's inputs.
    pub fn feeds(operands: &[Literal]) -> Tensors {
        operands.iter().enumerate().map(|(index, literal)| (format!("x{index}"), literal.clone())).collect()
    }
}

/// The cases of every sample that has an integer operand of a dtype that indexes.
pub fn value_cases() -> Vec<ValueCase> {
    let mut cases = vec![];
    for &kind in OpKind::ALL {
        for (index, sample) in kind.samples().iter().enumerate() {
            for (operand, (ty, _)) in sample.operands.iter().enumerate() {
                if matches!(ty.dtype, DType::I32 | DType::I64 | DType::U32) {
                    push_cases(&format!("{kind} sample {index}"), sample, operand, &mut cases);
                }
            }
        }
    }
    cases
}

fn push_cases(label: &str, sample: &Sample<Op>, operand: usize, cases: &mut Vec<ValueCase>) {
    let types: Vec<&TensorType> = sample.operands.iter().map(|(ty, _)| ty).collect();
    let range = sample.op.value_ranges(&types).into_iter().find(|range| range.operand == operand);
    let literals = sample.literals(3);
    let (dtype, count) = (types[operand].dtype, literals[operand].len());
    let (least, most) = match dtype {
        DType::I32 => (i128::from(i32::MIN), i128::from(i32::MAX)),
        DType::U32 => (0, i128::from(u32::MAX)),
        _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
    };
    for position in (0..count).take(3).chain((3..count).last()) {
        let limit = range.as_ref().and_then(|range| limit_at(range, &literals, position));
        let near = limit.map_or(vec![], |limit| vec![limit - 1, limit]);
        for value in near.into_iter().chain([-1, least, most]).filter(|value| (least..=most).contains(value))
        {
            let with = |value: i128| {
                let mut numbers = literals[operand].numbers();
                numbers[position] = Number::Int(value);
                let changed = Literal::from_numbers(dtype, literals[operand].dims(), numbers);
                let mut operands = literals.clone();
                operands[operand] = changed.expect("one number per element");
                operands
            };
            let is_except =
                range.as_ref().and_then(|range| range.except).is_some_and(|x| value == i128::from(x));
            let limit = limit.filter(|_| !is_except);
            let clamped = match limit {
                None => Some(value),
                Some(limit) => (limit > 0).then(|| value.clamp(0, limit - 1)),
            };
            cases.push(ValueCase {
                label: format!("{label}: {}[{position}] = {value}", sample.op.operand_name(operand)),
                sample: sample.clone(),
                operands: with(value),
                operand,
                position,
                faults: limit.is_some_and(|limit| !(0..limit).contains(&value)),
                clamped: clamped.map(with),
            });
        }
    }
}

/// The smallest value at `position` that is too large; `None` where any value will do.
fn limit_at(range: &ValueRange, literals: &[Literal], position: usize) -> Option<i128> {
    let last = literals[range.operand].dims().last().copied().unwrap_or(1);
    if let Some(part) = &range.used {
        let length = literals[part.lengths].to_ints()[position / last];
        if ((position % last) * part.step) as i128 >= length {
            return None;
        }
    }
    let window = &range.windows[if range.windows.len() == 1 { 0 } else { position % last }];
    let (extent, len) = (window.extent.as_static()?, window.len.as_static()?);
    (len > 0).then(|| i128::from(extent - len + 1))
}
