//! Bodies that run several times, one iteration after the other: what a loop of the graph cannot express, such as
//! carried sequences, extents that grow, and conditions on what only the host sees.

use super::control::{After, Body, Call, Next};
use super::lifted::truth;
use crate::context::Context;
use crate::inputs::{DeclaredDim, DeclaredKind, declared};
use crate::node::{Outcome, Stop};
use crate::proto::{GraphProto, ValueInfoProto};
use crate::value::{Imported, Tensor};
use rlx_ir::{DType, Literal, Value};

/// An operand of the body.
pub(super) enum Item {
    /// The number of the iteration.
    Count,
    /// The same in every iteration.
    Fixed(Imported),
    /// One for each iteration.
    Each(Vec<Imported>),
    /// All carries.
    Carries,
}

/// What becomes of the results of all iterations.
pub(super) enum Collect {
    /// A new axis, and whether the last iteration comes first there, of each.
    Stack(Vec<(i64, bool)>),
    Sequence,
}

/// Iterations under way.
pub(super) struct Driven {
    pub items: Vec<Item>,
    pub carries: Vec<Imported>,
    /// Most iterations, at least one.
    pub most: Option<usize>,
    /// Does the first result say whether there is another iteration?
    pub is_conditional: bool,
    pub collect: Collect,
}

struct Iterations {
    driven: Driven,
    carried: usize,
    at: usize,
    collected: Vec<Vec<Imported>>,
}

impl Driven {
    /// Enters `body` for the first time.
    pub fn begin<'m>(self, body: &'m GraphProto) -> Outcome<'m> {
        let skipped = self.carries.len() + usize::from(self.is_conditional);
        let collected = vec![vec![]; body.output.len().saturating_sub(skipped)];
        let mut after = Iterations { carried: self.carries.len(), driven: self, at: 0, collected };
        let carries = std::mem::take(&mut after.driven.carries);
        let inputs = after.inputs(carries)?;
        Err(Stop::Enter(Box::new(Call {
            body: Body::Graph(body),
            inputs,
            attributes: None,
            after: Box::new(after),
        })))
    }
}

impl Iterations {
    fn inputs<'m>(&self, carries: Vec<Imported>) -> Result<Vec<Option<Imported>>, Stop<'m>> {
        let mut inputs = vec![];
        let mut carries = Some(carries);
        for item in &self.driven.items {
            match item {
                Item::Count => inputs.push(Tensor::literal(Literal::scalar_i64(self.at as i64)).into()),
                Item::Fixed(value) => inputs.push(value.clone()),
                Item::Each(values) => {
                    let missing = || Stop::Invalid(format!("an operand has no element {}", self.at));
                    inputs.push(values.get(self.at).cloned().ok_or_else(missing)?);
                }
                Item::Carries => inputs.extend(carries.take().unwrap_or_default()),
            }
        }
        Ok(inputs.into_iter().map(Some).collect())
    }
}

impl<'m> After<'m> for Iterations {
    fn held(&mut self) -> Vec<&mut Imported> {
        let mut held: Vec<&mut Imported> = self.collected.iter_mut().flatten().collect();
        for item in &mut self.driven.items {
            match item {
                Item::Count | Item::Carries => {}
                Item::Fixed(value) => held.push(value),
                Item::Each(values) => held.extend(values),
            }
        }
        held
    }

    fn resume(&mut self, cx: &mut Context<'m>, results: &[Imported]) -> Result<Next, Stop<'m>> {
        let (mut holds, mut rest) = (true, results);
        if self.driven.is_conditional
            && let Some((first, others)) = results.split_first()
        {
            let Imported::Tensor(condition) = first else {
                return Err(Stop::Invalid(format!("its condition is {}", first.describe())));
            };
            let known = cx.known(condition).ok_or(Stop::Value(0))?;
            (holds, rest) = (truth(&known.map_err(Stop::Invalid)?)?, others);
        }
        let (carries, rows) = rest.split_at(self.carried.min(rest.len()));
        // How much of a row counts must be known before rows are put together.
        if rows.iter().any(|row| matches!(row, Imported::Tensor(Tensor { bounded: Some(_), .. }))) {
            return Err(Stop::Value(0));
        }
        for (all, row) in self.collected.iter_mut().zip(rows) {
            all.push(row.clone());
        }
        self.at += 1;
        if holds && self.driven.most != Some(self.at) {
            return Ok(Next::Again(self.inputs(carries.to_vec())?));
        }
        let mut results = carries.to_vec();
        for (index, rows) in std::mem::take(&mut self.collected).into_iter().enumerate() {
            results.push(match &self.driven.collect {
                Collect::Sequence => Imported::Sequence(rows),
                Collect::Stack(places) => {
                    let (axis, is_reversed) = places.get(index).copied().unwrap_or((0, false));
                    let rows = if is_reversed { rows.into_iter().rev().collect() } else { rows };
                    stack(cx, &rows, axis)?
                }
            });
        }
        Ok(Next::Done(results))
    }
}

/// The tensors `items`, at least one, along a new axis.
pub(super) fn stack<'m>(cx: &mut Context<'m>, items: &[Imported], axis: i64) -> Result<Imported, Stop<'m>> {
    let (values, dtype) = same(cx, items)?;
    let rank = cx.ty(values[0])?.shape.rank() as i64;
    if !(-rank - 1..=rank).contains(&axis) {
        return Err(Stop::Invalid(format!("axis {axis} is out of range for rank {}", rank + 1)));
    }
    let first = cx.ty(values[0])?;
    for &value in &values {
        let other = cx.ty(value)?;
        if other != first {
            return Err(Stop::Invalid(format!("{first} and {other} cannot be stacked")));
        }
    }
    let stacked = cx.graph().stack(&values, if axis < 0 { axis + rank + 1 } else { axis });
    cx.tensor_as(stacked, dtype)
}

/// The values of `items`, at least one, and the one dtype that ONNX sees.
pub(super) fn same<'m>(cx: &mut Context<'m>, items: &[Imported]) -> Result<(Vec<Value>, DType), Stop<'m>> {
    let (mut values, mut dtype) = (vec![], None);
    for item in items {
        let Imported::Tensor(tensor) = item else {
            return Err(Stop::Refused(format!("{} cannot be joined with others", item.describe())));
        };
        if *dtype.get_or_insert(tensor.dtype) != tensor.dtype {
            return Err(Stop::Invalid("tensors of several element types cannot be joined".into()));
        }
        values.push(cx.value(tensor)?);
    }
    let dtype = dtype.ok_or_else(|| Stop::Invalid("there is nothing to join".into()))?;
    Ok((values, dtype))
}

/// What stacking no value of the type of `info` gives. Extents that are not declared are 0.
pub(super) fn empty_like<'m>(info: &ValueInfoProto) -> Result<Imported, Stop<'m>> {
    let DeclaredKind::Tensor(dtype, dims) = declared(info).map_err(Stop::Failed)?.kind else {
        return Err(Stop::Refused("it stacks no value of a kind that is not declared as a tensor".into()));
    };
    let extent = |dim: &DeclaredDim| match dim {
        DeclaredDim::Fixed(extent) => *extent as usize,
        DeclaredDim::Named(_) => 0,
    };
    let dims: Vec<usize> = [0].into_iter().chain(dims.unwrap_or_default().iter().map(extent)).collect();
    let literal = Literal::from_bytes(dtype, &dims, &[]).map_err(|error| Stop::Invalid(error.to_string()))?;
    Ok(Tensor::literal(literal).into())
}
