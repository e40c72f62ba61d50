//! `Loop`: a `scan` of the graph where the number of iterations is an extent, a `while` where a run decides it, and
//! iterations one after the other where values change their types.
//!
//! Inside the body the condition holds, whatever it is: the body would not run otherwise.

use super::driven::{Collect, Driven, Item, empty_like};
use super::lifted::{Lifted, emit, native, passes, scalar, truth, wrap};
use super::{Rule, rule};
use crate::context::Context;
use crate::dims;
use crate::node::{Node, Outcome, Stop};
use crate::proto::GraphProto;
use crate::value::{Bounded, Content, Imported, Tensor};
use rlx_ir::ops::{Checkpoint, Scan, While};
use rlx_ir::{DType, Dim, Graph, Literal, Shape, TensorType, Value};

pub(super) const RULES: &[Rule] = &[rule("Loop", &[1, 11, 13, 16, 19, 21, 23, 24, 25], r#loop)];

/// Most iterations of a loop whose number is known before.
const MOST_ITERATIONS: i64 = 1 << 22;
/// Most iterations of a loop that ends when its condition says so: one that goes on is a fault, told after seconds.
const MOST_CONDITIONS: i64 = 1 << 19;
/// Most iterations and elements for which results are set aside before it is known how many there will be.
const MOST_RESERVED: (i64, i64) = (1 << 12, 1 << 22);

/// How often a loop runs at most.
enum Limit {
    None,
    Extent(Dim),
    Computed(Tensor),
}

struct Loop<'m> {
    body: &'m GraphProto,
    limit: Limit,
    /// The first condition; `None` where it holds.
    condition: Option<Tensor>,
    carries: Vec<Imported>,
    /// Is the carry the same in every iteration?
    is_fixed: Vec<bool>,
}

fn r#loop<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let body = node.graph("body")?;
    let carries = node.inputs.get(2..).unwrap_or_default();
    let carries: Option<Vec<Imported>> = carries.iter().cloned().collect();
    let carries = carries.ok_or_else(|| Stop::Invalid("a carried value is missing".into()))?;
    let count = carries.len();
    if body.input.len() != count + 2 || body.output.len() < count + 1 {
        return Err(Stop::Invalid(format!(
            "its body has {} inputs and {} outputs; {count} values are carried",
            body.input.len(),
            body.output.len()
        )));
    }
    let stacked = body.output.len() - count - 1;
    let result = native(cx, node, |cx| {
        let is_fixed = (0..count).map(|index| passes(body, index + 2, index + 1)).collect();
        // The number of stacked results is a shape: it must be known.
        let mut limit = match node.optional_tensor(0)? {
            None => Limit::None,
            Some(Tensor { content: Content::Dims(dims), .. }) => {
                Limit::Extent(dims.first().cloned().unwrap_or_else(|| Dim::from(0)))
            }
            Some(tensor) if stacked > 0 || matches!(tensor.content, Content::Literal(_)) => {
                Limit::Extent(node.known_int(cx, 0)?.into())
            }
            Some(tensor) => Limit::Computed(tensor.clone()),
        };
        let condition = match node.optional_tensor(1)? {
            None => None,
            Some(tensor) if stacked > 0 || matches!(tensor.content, Content::Literal(_)) => {
                if !truth(&node.literal(cx, 1)?)? {
                    limit = Limit::Extent(0.into());
                }
                None
            }
            Some(tensor) => Some(tensor.clone()),
        };
        Loop { body, limit, condition, carries: carries.clone(), is_fixed }.build(cx)
    })?;
    match result {
        Some(results) => Ok(results),
        None => walked(cx, node, body, carries),
    }
}

/// One iteration after the other.
fn walked<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    body: &'m GraphProto,
    carries: Vec<Imported>,
) -> Outcome<'m> {
    let most = match node.input(0) {
        None => None,
        Some(_) => Some(node.known_int(cx, 0)?.max(0) as usize),
    };
    let holds = node.optional_literal(cx, 1)?.map_or(Ok(true), |literal| truth(&literal))?;
    if most == Some(0) || !holds {
        let stacked = body.output.iter().skip(carries.len() + 1);
        let empty = stacked.map(empty_like).collect::<Result<Vec<_>, _>>()?;
        return Ok(carries.into_iter().chain(empty).collect());
    }
    let items = vec![Item::Count, Item::Fixed(holding()?), Item::Carries];
    Driven { items, carries, most, is_conditional: true, collect: Collect::Stack(vec![]) }.begin(body)
}

/// The condition that holds.
pub(super) fn holding<'m>() -> Result<Imported, Stop<'m>> {
    Ok(Tensor::literal(literal(DType::Bool, 1)?).into())
}

fn literal<'m>(dtype: DType, value: i128) -> Result<Literal, Stop<'m>> {
    Literal::ints(dtype, &[], &[value]).map_err(|error| Stop::Invalid(error.to_string()))
}

/// A body of one iteration, of the count and the carries that change.
struct Step {
    lifted: Lifted,
    /// The values of the carries that change.
    first: Vec<Value>,
    types: Vec<TensorType>,
    /// Does the condition hold after every iteration?
    goes_on: bool,
}

impl<'m> Loop<'m> {
    fn step(&self, cx: &mut Context<'m>) -> Result<Step, Stop<'m>> {
        let (mut first, mut dtypes, mut types) = (vec![], vec![], vec![]);
        for (carry, _) in self.carries.iter().zip(&self.is_fixed).filter(|(_, fixed)| !**fixed) {
            let Imported::Tensor(tensor) = carry else {
                return Err(Stop::Refused(format!("it carries {}", carry.describe())));
            };
            let value = cx.value(tensor)?;
            first.push(value);
            dtypes.push(tensor.dtype);
            types.push(cx.ty(value)?);
        }
        let count = TensorType::new(DType::I64, Shape::scalar());
        let inputs: Vec<TensorType> = [count].into_iter().chain(types.iter().cloned()).collect();
        let mut goes_on = false;
        let lifted = Lifted::new(cx, self.body.name(), &inputs, |cx, own| {
            let mut inputs = vec![Some(cx.tensor(own[0])?), Some(holding()?)];
            let mut changing = own[1..].iter().zip(&dtypes);
            for (carry, is_fixed) in self.carries.iter().zip(&self.is_fixed) {
                let own = if *is_fixed { None } else { changing.next() };
                inputs.push(Some(match own {
                    Some((&value, &dtype)) => cx.tensor_as(value, dtype)?,
                    None => carry.clone(),
                }));
            }
            let mut results = cx.walk(self.body, inputs)?;
            if let Some(Imported::Tensor(Tensor { content: Content::Literal(literal), .. })) = results.first()
            {
                goes_on = truth(literal)?;
            }
            let mut index = 0;
            results.retain(|_| {
                index += 1;
                index < 2 || self.is_fixed.get(index - 2) != Some(&true)
            });
            Ok(results)
        })?;
        let end = 1 + types.len();
        let found = lifted.types[1..end].iter().zip(&lifted.dtypes[1..end]);
        for (own, other) in found.zip(types.iter().zip(&dtypes)) {
            if own != other {
                return Err(Stop::Refused(format!("it carries {}, then {}", other.0, own.0)));
            }
        }
        Ok(Step { lifted, first, types, goes_on })
    }

    fn build(&self, cx: &mut Context<'m>) -> Outcome<'m> {
        let step = self.step(cx)?;
        let stops = self.condition.is_some() || !step.goes_on;
        let mut results = match &self.limit {
            Limit::Extent(length) if !stops || length.is(0) => {
                step.scan(cx, &length.maximum(&Dim::from(0)))?
            }
            Limit::None if !stops => {
                let reason = "it never ends: it has no trip count, and its condition holds";
                return Err(Stop::Invalid(reason.into()));
            }
            _ => step.r#while(cx, self)?,
        };
        let stacked = results.split_off(step.types.len());
        let mut changing = results.into_iter();
        let fixed = |(carry, is_fixed): (&Imported, &bool)| {
            if *is_fixed { Some(carry.clone()) } else { changing.next() }
        };
        Ok(self.carries.iter().zip(&self.is_fixed).filter_map(fixed).chain(stacked).collect())
    }
}

impl Step {
    /// `values` of the graph in the dtypes of the results of the body.
    fn imported<'m>(&self, cx: &mut Context<'m>, values: &[Value]) -> Outcome<'m> {
        let dtypes = self.lifted.dtypes.iter().skip(1);
        values.iter().zip(dtypes).map(|(&value, &dtype)| cx.tensor_as(value, dtype)).collect()
    }

    /// `length` iterations.
    fn scan<'m>(&self, cx: &mut Context<'m>, length: &Dim) -> Outcome<'m> {
        if length.as_static().is_some_and(|length| length > MOST_ITERATIONS) {
            return Err(Stop::Refused(format!("{length} iterations are more than {MOST_ITERATIONS}")));
        }
        let mut types = vec![TensorType::new(DType::I64, Shape::scalar())];
        types.extend(self.types.iter().cloned());
        types.extend(self.lifted.capture_types(cx)?);
        let body = wrap(cx, &types, |graph, inputs| {
            let mut results = self.lifted.inline(graph, inputs)?;
            results[0] = counted(graph, inputs[0]);
            Ok(results)
        })?;
        let carries = 1 + self.types.len();
        let (length, checkpoint) = (length.clone(), Checkpoint::Every);
        let op = Scan { length, carries, stacked: 0, reverse: false, checkpoint, body: body.into() };
        let zero = cx.graph().constant(Literal::scalar_i64(0));
        let operands: Vec<Value> =
            [zero].iter().chain(&self.first).chain(&self.lifted.captures).copied().collect();
        let results = emit(cx, op, &operands)?;
        self.imported(cx, &results[1..])
    }

    /// Iterations while the condition holds. Stacked results have room for as many as there may be.
    fn r#while<'m>(&self, cx: &mut Context<'m>, of: &Loop<'m>) -> Outcome<'m> {
        let rooms = self.rooms(of)?;
        let go = match &of.condition {
            Some(condition) => scalar(cx, condition)?,
            None => cx.graph().constant(literal(DType::Bool, 1)?),
        };
        let zero = cx.graph().constant(Literal::scalar_i64(0));
        let mut operands = vec![zero, go];
        operands.extend(&self.first);
        for ty in &rooms {
            operands.push(zeros(cx, ty)?);
        }
        let carries = operands.len();
        operands.extend(&self.lifted.captures);
        let own = operands.len();
        match &of.limit {
            Limit::None => {}
            Limit::Extent(length) => {
                operands.push(dims::materialise(cx.graph(), std::slice::from_ref(length), 0)?)
            }
            Limit::Computed(tensor) => operands.push(scalar(cx, tensor)?),
        }
        let types = operands.iter().map(|&value| cx.ty(value)).collect::<Result<Vec<_>, _>>()?;
        let condition = wrap(cx, &types, |graph, inputs| {
            let Some(&limit) = inputs.get(own) else { return Ok(vec![inputs[1]]) };
            let is_inside = graph.compare_lt(inputs[0], limit);
            Ok(vec![graph.and(inputs[1], is_inside)])
        })?;
        let changing = self.types.len();
        let body = wrap(cx, &types, |graph, inputs| {
            let mut given = vec![inputs[0]];
            given.extend(&inputs[2..2 + changing]);
            given.extend(&inputs[carries..own]);
            let mut results = self.lifted.inline(graph, &given)?;
            let rows = results.split_off(1 + changing);
            results[0] = graph.reshape(results[0], Shape::scalar());
            results.insert(0, counted(graph, inputs[0]));
            let at = graph.reshape(inputs[0], [1usize]);
            for (&row, &room) in rows.iter().zip(&inputs[2 + changing..carries]) {
                let row = graph.unsqueeze(row, 0);
                results.push(graph.dynamic_update_slice(room, row, at, [0usize]));
            }
            Ok(results)
        })?;
        let max_iterations = Some(Dim::from(MOST_CONDITIONS));
        let op = While { carries, max_iterations, condition: condition.into(), body: body.into() };
        let results = emit(cx, op, &operands)?;
        let mut imported = self.imported(cx, &results[2..])?;
        let Imported::Tensor(Tensor { node: Some(count), .. }) = cx.tensor(results[0])? else {
            return Err(Stop::Invalid("the iterations were not counted".into()));
        };
        for result in &mut imported[changing..] {
            result.tensors_mut(&mut |tensor| tensor.bounded = Some(Bounded { axis: 0, count }));
        }
        Ok(imported)
    }

    /// Types of the room for all rows of every stacked result.
    fn rooms<'m>(&self, of: &Loop<'m>) -> Result<Vec<TensorType>, Stop<'m>> {
        let rows = &self.lifted.types[1 + self.types.len()..];
        let length = match &of.limit {
            _ if rows.is_empty() => return Ok(vec![]),
            Limit::Extent(length) => length.as_static().filter(|&length| length <= MOST_RESERVED.0),
            Limit::None | Limit::Computed(_) => None,
        };
        let length = length.ok_or_else(|| Stop::Refused("it stacks an unknown number of results".into()))?;
        let mut rooms = vec![];
        for row in rows {
            let dims = [Dim::from(length.max(0))].into_iter().chain(row.shape.dims().iter().cloned());
            let shape = Shape::new(dims);
            let elements = shape.num_elements().as_static();
            if elements.is_none_or(|elements| elements > MOST_RESERVED.1) {
                return Err(Stop::Refused(format!("it stacks up to {length} results of {row}")));
            }
            rooms.push(TensorType::new(row.dtype, shape));
        }
        Ok(rooms)
    }
}

fn counted(graph: &mut Graph, count: Value) -> Value {
    let one = graph.constant(Literal::scalar_i64(1));
    graph.add(count, one)
}

fn zeros<'m>(cx: &mut Context<'m>, ty: &TensorType) -> Result<Value, Stop<'m>> {
    let missing = || Stop::Refused(format!("{ty} has no zero"));
    let zero = vec![0; ty.dtype.size_of().ok_or_else(missing)?];
    let zero = Literal::from_bytes(ty.dtype, &[], &zero).map_err(|_| missing())?;
    let zero = cx.graph().constant(zero);
    Ok(cx.graph().expand(zero, ty.shape.clone()))
}
