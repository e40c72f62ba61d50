//! Which values of its integer operands an op takes; any other is a run-time fault.
//!
//! An op declares its ranges once ([`crate::op::Meaning::checked`]). Its evaluation reads such operands through
//! [`read_values`], passes insert checks and clamps from the same declaration, and tests compare kernels with it.
//! Extents are expressions over symbols; what they are is known when the symbols are bound.

use crate::dim::Dim;
use crate::literal::Literal;
use crate::op::{Fault, OpSpec};
use crate::ops::{Op, for_each_index};
use crate::shape::TensorType;

/// The values of one integer operand that an op takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueRange {
    /// Position of the operand.
    pub operand: usize,
    /// One window for every element, or one per position along the operand's last axis.
    pub windows: Vec<ValueWindow>,
    /// Which elements count; all of them when `None`.
    pub used: Option<UsedPart>,
    /// A value that counts for nothing and is taken as it is.
    pub except: Option<i64>,
}

/// The values `v` with `0 <= v` and `v + len <= extent`, or any value where `len` is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueWindow {
    /// Extent of what is indexed.
    pub extent: Dim,
    /// Elements that are touched from `v` on.
    pub len: Dim,
}

impl ValueWindow {
    /// The smallest value beyond the window, where `len` is not 0.
    pub fn limit(&self) -> Dim {
        self.extent.clone() - self.len.clone() + Dim::from(1)
    }
}

/// Of the operand `[B, P]`, element `[b, p]` counts where `p * step < lengths[b]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedPart {
    /// Position of the operand `lengths`, which has a range of its own.
    pub lengths: usize,
    /// Distance between the starts of two positions.
    pub step: usize,
}

impl ValueRange {
    /// Every element of the operand is an index below `extent`.
    pub fn below(operand: usize, extent: impl Into<Dim>) -> ValueRange {
        ValueRange::windows(operand, [(extent.into(), Dim::from(1))])
    }

    /// An `extent` and a `len` for every element, or per position along the last axis.
    pub fn windows(operand: usize, windows: impl IntoIterator<Item = (Dim, Dim)>) -> ValueRange {
        let windows = windows.into_iter().map(|(extent, len)| ValueWindow { extent, len }).collect();
        ValueRange { operand, windows, used: None, except: None }
    }

    /// The values of the operand among static `operands`, with 0 for those that do not count.
    ///
    /// # Errors
    /// The first value outside its window, with its position.
    fn read(&self, name: &str, operands: &[&Literal]) -> Result<Vec<usize>, Fault> {
        let values = operands[self.operand];
        let fixed = |dim: &Dim| i128::from(dim.as_static().unwrap_or(0));
        let windows: Vec<_> =
            self.windows.iter().map(|window| (fixed(&window.len), fixed(&window.limit()))).collect();
        let used = self.used.as_ref().map(|part| (operands[part.lengths].to_ints(), part.step as i128));
        let (numbers, mut out, mut fault) = (values.to_ints(), vec![], None);
        for_each_index(values.dims(), |at| {
            let (value, last) = (numbers[out.len()], at.last().copied().unwrap_or(0));
            let (len, limit) = windows[if windows.len() == 1 { 0 } else { last }];
            let counts = used.as_ref().is_none_or(|(lengths, step)| last as i128 * step < lengths[at[0]]);
            if !counts || len == 0 || self.except.is_some_and(|except| value == i128::from(except)) {
                return out.push(0);
            }
            if !(0..limit).contains(&value) && fault.is_none() {
                fault = Some(Fault(format!("{name}{at:?} is {value}, outside [0, {limit})")));
            }
            out.push(usize::try_from(value).unwrap_or(0));
        });
        fault.map_or(Ok(out), Err)
    }
}

impl Op {
    /// The values of integer operands that this op takes; empty for most ops.
    pub fn value_ranges(&self, operands: &[&TensorType]) -> Vec<ValueRange> {
        self.meaning().ranges.map_or_else(Vec::new, |rule| rule(operands))
    }

    /// The name of operand `index`.
    pub fn operand_name(&self, index: usize) -> &'static str {
        let def = self.def();
        let given = self.optional_given();
        let name = def.operands.iter().chain(&given).nth(index).copied();
        name.or(def.variadic).unwrap_or("operand")
    }
}

/// The values of operand `operand`, which `op` declares a range for, with 0 for those that do not count.
///
/// # Errors
/// The first value outside its range, with its position.
pub fn read_values<O: OpSpec>(op: &O, operands: &[&Literal], operand: usize) -> Result<Vec<usize>, Fault> {
    let op: Op = op.clone().into();
    let types: Vec<TensorType> = operands.iter().map(|literal| literal.ty()).collect();
    let ranges = op.value_ranges(&types.iter().collect::<Vec<_>>());
    let range = ranges.into_iter().find(|range| range.operand == operand);
    let range = range.ok_or_else(|| Fault(format!("{} declares no range", op.operand_name(operand))))?;
    range.read(op.operand_name(operand), operands)
}
