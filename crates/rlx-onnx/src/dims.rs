//! Integers that are expressions over extents: what shapes are made of before a run binds the symbols.
//!
//! Exporters compute shapes with ordinary nodes (`Shape`, `Gather`, `Concat`, `Mul`, ..). Where their operands are
//! extents or constants, the results are expressions again, so that one compilation serves every extent. Arithmetic
//! stands here; ops that move elements do it in their own rules, on positions (`rules::moved`). What is neither is
//! computed in the graph like any other tensor.

use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use crate::ratios;
use crate::rules::{Rule, rule};
use crate::tensor;
use crate::value::{Content, Imported, Tensor};
use rlx_ir::ops::{BinaryKind, ReduceKind};
use rlx_ir::{DType, Dim, DimAlgebra, DimError, DimJoin, Graph, Literal, Shape, Symbol, TensorType, Value};
use std::cmp::Ordering;
use std::collections::HashMap;

/// The ops that make extents.
pub(crate) const RULES: &[Rule] = &[
    rule("Shape", &[1, 13, 15, 19, 21, 23, 24, 25], shape),
    rule("Size", &[1, 13, 19, 21, 23, 24, 25], size),
];

/// Expressions in row-major order.
#[derive(Clone)]
pub(crate) struct Extents {
    pub dims: Vec<Dim>,
    pub shape: Vec<usize>,
    pub dtype: DType,
}

/// The integers of an operand; `None` where they are not known, or too many to be extents.
pub(crate) fn extents(input: Option<&Imported>) -> Option<Extents> {
    const MOST: usize = 4096;
    let Some(Imported::Tensor(tensor)) = input else { return None };
    let (shape, dtype) = (tensor.shape.as_static()?, tensor.dtype);
    match &tensor.content {
        Content::Dims(dims) => Some(Extents { dims: dims.clone(), shape, dtype }),
        Content::Literal(literal) if dtype.is_int() && literal.len() <= MOST => {
            let dims = literal.to_ints().into_iter().map(|value| i64::try_from(value).ok().map(Dim::from));
            Some(Extents { dims: dims.collect::<Option<_>>()?, shape, dtype })
        }
        _ => None,
    }
}

/// Is the operand made of expressions?
pub(crate) fn is_symbolic(input: &Option<Imported>) -> bool {
    matches!(input, Some(Imported::Tensor(Tensor { content: Content::Dims(_), .. })))
}

/// The result of a node that computes extents from extents; `None` where it is another one.
pub(crate) fn import<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Result<Option<Tensor>, Stop<'m>> {
    let op = node.proto.op_type();
    if !node.proto.domain().is_empty() && node.proto.domain() != "ai.onnx" {
        return Ok(None);
    }
    // The first versions broadcast in another way.
    if let Some(result) = ratios::import(cx, node)? {
        return Ok(Some(result));
    }
    if !node.inputs.iter().any(is_symbolic) || node.has("broadcast") || node.has("consumed_inputs") {
        return Ok(None);
    }
    let result = match op {
        "Cast" if node.version >= 6 => cast(node)?,
        "Neg" => extents(node.input(0)).map(|x| x.map(|dim| -dim)),
        "Abs" => extents(node.input(0)).map(|x| x.map(|dim| maximum(cx.graph(), &dim, &-dim.clone()))),
        "ReduceProd" | "ReduceSum" | "ReduceMax" | "ReduceMin" => reduce(cx, node, op)?,
        "CumSum" => running_sum(cx, node)?,
        "Where" => choose(node)?,
        "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" => return compare(cx, node, op),
        "Add" | "Sub" | "Mul" | "Div" | "Mod" | "Min" | "Max" => arithmetic(cx, node, op)?,
        _ => None,
    };
    Ok(result.map(|x| Tensor::expressions(x.dtype, &x.shape, x.dims)))
}

impl Extents {
    fn map(self, change: impl FnMut(Dim) -> Dim) -> Extents {
        Extents { dims: self.dims.into_iter().map(change).collect(), ..self }
    }
}

type Found = Option<Extents>;

fn operand_dims<'m>(node: &Node<'m>) -> Result<Vec<Dim>, Stop<'m>> {
    match node.input(0) {
        Some(Imported::Strings(strings)) => Ok(Shape::from(strings.dims()).into_dims()),
        _ => Ok(node.shape(0)?.dims().to_vec()),
    }
}

fn shape<'m>(_: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let dims = operand_dims(node)?;
    let rank = dims.len() as i64;
    let clip = |at: i64| if at < 0 { at.saturating_add(rank) } else { at }.clamp(0, rank) as usize;
    let (start, end) = (clip(node.int_or("start", 0)?), clip(node.int_or("end", rank)?));
    Ok(vec![Tensor::dims(dims.get(start..end).unwrap_or_default().to_vec(), 1).into()])
}

fn size<'m>(_: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    Ok(vec![Tensor::dims(vec![Shape::from(operand_dims(node)?).num_elements()], 0).into()])
}

/// Between the integer types that shapes are computed in.
fn cast<'m>(node: &Node<'m>) -> Result<Found, Stop<'m>> {
    let to = tensor::dtype(node.int_or("to", 0)? as i32).ok();
    let Some(to) = to.filter(|to| matches!(to, DType::I64 | DType::I32)) else { return Ok(None) };
    node.without_influence("saturate");
    node.without_influence("round_mode");
    Ok(extents(node.input(0)).map(|x| Extents { dtype: to, ..x }))
}

/// All elements reduced to one, or a vector along its axis.
fn reduce<'m>(cx: &mut Context<'m>, node: &Node<'m>, op: &str) -> Result<Found, Stop<'m>> {
    let Some(x) = extents(node.input(0)).filter(|x| x.shape.len() <= 1) else { return Ok(None) };
    let axes = match node.input(1) {
        Some(Imported::Tensor(Tensor { content: Content::Literal(_), .. })) | None => {
            node.axes(cx, "axes", 1)?.unwrap_or_default()
        }
        Some(_) => return Ok(None),
    };
    let keeps = node.flag("keepdims", true)?;
    if axes.is_empty() && node.flag("noop_with_empty_axes", false)? {
        return Ok(Some(x));
    }
    node.without_influence("noop_with_empty_axes");
    node.axes_of(&axes, x.shape.len())?;
    let joined = x.dims.iter().cloned().reduce(|a, b| match op {
        "ReduceProd" => a * b,
        "ReduceSum" => a + b,
        "ReduceMax" => maximum(cx.graph(), &a, &b),
        _ => minimum(cx.graph(), &a, &b),
    });
    let shape = if keeps { vec![1; x.shape.len()] } else { vec![] };
    Ok(joined.map(|joined| Extents { dims: vec![joined], shape, ..x }))
}

fn running_sum<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Result<Found, Stop<'m>> {
    let Some(x) = extents(node.input(0)).filter(|x| x.shape.len() == 1) else { return Ok(None) };
    let (exclusive, reverse) = (node.flag("exclusive", false)?, node.flag("reverse", false)?);
    node.axis(node.known_int(cx, 1)?, 1)?;
    let mut sum = Dim::from(0);
    let mut add = |dim: &Dim| {
        let before = sum.clone();
        sum = before.clone() + dim.clone();
        if exclusive { before } else { sum.clone() }
    };
    let mut dims: Vec<Dim> = if reverse {
        x.dims.iter().rev().map(&mut add).collect()
    } else {
        x.dims.iter().map(&mut add).collect()
    };
    if reverse {
        dims.reverse();
    }
    Ok(Some(Extents { dims, ..x }))
}

/// Extents that a sequence holds, one after the other; `None` where it holds something else.
pub(crate) fn joined(items: &[Imported], axis: i64, is_new_axis: bool) -> Option<Tensor> {
    let parts: Vec<Extents> = items.iter().map(|item| extents(Some(item))).collect::<Option<_>>()?;
    let rank = usize::from(!is_new_axis);
    let dtype = parts.first()?.dtype;
    let is_plain = parts.iter().all(|part| part.shape.len() == rank && part.dtype == dtype);
    let is_known =
        !items.iter().any(|item| matches!(item, Imported::Tensor(Tensor { content: Content::Dims(_), .. })));
    if !is_plain || is_known || !matches!(axis, 0 | -1) {
        return None;
    }
    let dims: Vec<Dim> = parts.into_iter().flat_map(|part| part.dims).collect();
    Some(Tensor::expressions(dtype, &[dims.len()], dims))
}

/// The NumPy broadcast of shapes.
fn broadcast(shapes: &[&[usize]]) -> Option<Vec<usize>> {
    let join = |all: Shape, shape: &&[usize]| all.broadcast(&Shape::from(*shape));
    shapes.iter().try_fold(Shape::scalar(), join)?.as_static()
}

/// The elements of `from`, of shape `own`, repeated to `shape`.
fn repeated<T: Clone>(from: &[T], own: &[usize], shape: &[usize]) -> Option<Vec<T>> {
    let count: usize = shape.iter().product();
    let at = |mut index: usize| {
        let (mut position, mut stride) = (0, 1);
        for (axis, &extent) in shape.iter().enumerate().rev() {
            let coordinate = index % extent;
            index /= extent;
            if let Some(own_axis) = (axis + own.len()).checked_sub(shape.len()) {
                position += if own[own_axis] == 1 { 0 } else { coordinate * stride };
                stride *= own[own_axis];
            }
        }
        from.get(position).cloned()
    };
    (0..count).map(at).collect()
}

/// Pairs of elements, and their extents.
pub(crate) type Pairs = (Vec<(Dim, Dim)>, Vec<usize>);

/// Two operands, repeated to one shape.
pub(crate) fn pairs(a: &Extents, b: &Extents) -> Option<Pairs> {
    let shape = broadcast(&[&a.shape, &b.shape])?;
    let (left, right) = (repeated(&a.dims, &a.shape, &shape)?, repeated(&b.dims, &b.shape, &shape)?);
    Some((left.into_iter().zip(right).collect(), shape))
}

fn arithmetic<'m>(cx: &mut Context<'m>, node: &Node<'m>, op: &str) -> Result<Found, Stop<'m>> {
    if op == "Mod" && node.flag("fmod", false)? {
        return Ok(None);
    }
    let operands: Option<Vec<Extents>> = node.inputs.iter().map(|input| extents(input.as_ref())).collect();
    let Some(mut operands) = operands.map(Vec::into_iter) else { return Ok(None) };
    let Some(mut whole) = operands.next() else { return Ok(None) };
    for next in operands {
        let Some((pairs, shape)) = pairs(&whole, &next) else { return Ok(None) };
        let combined = pairs.into_iter().map(|(a, b)| combine(cx.graph(), op, a, b)).collect();
        let Some(dims) = combined else { return Ok(None) };
        whole = Extents { dims, shape, ..whole };
    }
    Ok(Some(whole))
}

fn combine(graph: &Graph, op: &str, a: Dim, b: Dim) -> Option<Dim> {
    // ONNX divides towards zero, expressions divide downwards: the same where nothing is negative.
    let is_plain = graph.dim_bounds(&a).0.is_some_and(|low| low >= 0)
        && graph.dim_bounds(&b).0.is_some_and(|low| low >= 0)
        && !b.is(0);
    Some(match op {
        "Add" => a + b,
        "Sub" => a - b,
        "Mul" => a * b,
        "Min" => minimum(graph, &a, &b),
        "Max" => maximum(graph, &a, &b),
        "Div" if is_plain => a.floor_div(&b),
        "Mod" if is_plain => a.modulo(&b),
        _ => return None,
    })
}

/// The smaller one, told by bounds where they tell.
pub(crate) fn minimum(graph: &Graph, a: &Dim, b: &Dim) -> Dim {
    match graph.dim_bounds(&(a.clone() - b.clone())) {
        (_, Some(..=0)) => a.clone(),
        (Some(0..), _) => b.clone(),
        _ => a.minimum(b),
    }
}

/// The larger one, told by bounds where they tell.
pub(crate) fn maximum(graph: &Graph, a: &Dim, b: &Dim) -> Dim {
    match graph.dim_bounds(&(a.clone() - b.clone())) {
        (_, Some(..=0)) => b.clone(),
        (Some(0..), _) => a.clone(),
        _ => a.maximum(b),
    }
}

/// One of two operands each, by a condition that is known.
fn choose<'m>(node: &Node<'m>) -> Result<Found, Stop<'m>> {
    let (Some(a), Some(b)) = (extents(node.input(1)), extents(node.input(2))) else { return Ok(None) };
    let Content::Literal(condition) = &node.tensor(0)?.content else { return Ok(None) };
    let Some(shape) = broadcast(&[&a.shape, &b.shape, condition.dims()]) else { return Ok(None) };
    let whole = |x: &Extents| repeated(&x.dims, &x.shape, &shape);
    let chosen = repeated(&condition.to_ints(), condition.dims(), &shape);
    let (Some(left), Some(right), Some(chosen)) = (whole(&a), whole(&b), chosen) else { return Ok(None) };
    let each = chosen.into_iter().zip(left.into_iter().zip(right));
    let dims = each.map(|(yes, (a, b))| if yes != 0 { a } else { b }).collect();
    Ok(Some(Extents { dims, shape, ..a }))
}

/// How extents compare, where it is the same for every binding of the symbols.
fn compare<'m>(cx: &mut Context<'m>, node: &Node<'m>, op: &str) -> Result<Option<Tensor>, Stop<'m>> {
    let (Some(a), Some(b)) = (extents(node.input(0)), extents(node.input(1))) else { return Ok(None) };
    let Some((pairs, shape)) = pairs(&a, &b) else { return Ok(None) };
    let mut results = vec![];
    for (a, b) in pairs {
        let holds = match (cx.graph().dim_bounds(&(a - b)), op) {
            ((Some(0), Some(0)), _) => holds(op, Ordering::Equal),
            ((Some(1..), _), _) => holds(op, Ordering::Greater),
            ((_, Some(..=-1)), _) => holds(op, Ordering::Less),
            ((Some(0), _), "GreaterOrEqual") | ((_, Some(0)), "LessOrEqual") => true,
            ((Some(0), _), "Less") | ((_, Some(0)), "Greater") => false,
            _ => return Ok(None),
        };
        results.push(i128::from(holds));
    }
    let literal = Literal::ints(DType::Bool, &shape, &results);
    literal.map(|literal| Some(Tensor::literal(literal))).map_err(|error| Stop::Invalid(error.to_string()))
}

fn holds(op: &str, order: Ordering) -> bool {
    match op {
        "Equal" => order.is_eq(),
        "Less" => order.is_lt(),
        "LessOrEqual" => order.is_le(),
        "Greater" => order.is_gt(),
        _ => order.is_ge(),
    }
}

/// Extents as a vector of the graph, or as a scalar where `rank` is 0.
pub(crate) fn materialise<'m>(graph: &mut Graph, dims: &[Dim], rank: usize) -> Result<Value, Stop<'m>> {
    let shape = if rank == 0 { Shape::scalar() } else { Shape::from([dims.len()]) };
    numbers(graph, dims, &TensorType::new(DType::I64, shape))
}

/// Extents as a tensor of the graph.
pub(crate) fn numbers<'m>(graph: &mut Graph, dims: &[Dim], ty: &TensorType) -> Result<Value, Stop<'m>> {
    let mut counting = Counting { graph, counted: HashMap::new() };
    let parts = dims.iter().map(|dim| counting.number(dim)).collect::<Result<Vec<_>, _>>()?;
    let all = graph.stack(&parts, 0);
    let all = graph.cast_to(all, ty.dtype);
    Ok(graph.reshape(all, ty.shape.clone()))
}

/// An extent as an integer of the graph.
pub(crate) fn number<'m>(graph: &mut Graph, dim: &Dim) -> Result<Value, Stop<'m>> {
    Counting { graph, counted: HashMap::new() }.number(dim)
}

/// Dims as integers of a graph.
struct Counting<'g> {
    graph: &'g mut Graph,
    /// Symbols that have a number.
    counted: HashMap<Symbol, Value>,
}

impl Counting<'_> {
    fn number<'m>(&mut self, dim: &Dim) -> Result<Value, Stop<'m>> {
        let refuse = |error| Stop::Refused(format!("the extent {dim} cannot become a number: {error}"));
        dim.rebuild(self).map_err(refuse)
    }
}

impl DimAlgebra for Counting<'_> {
    type Value = Value;
    type Error = DimError;

    fn constant(&mut self, value: i64) -> Result<Value, DimError> {
        Ok(self.graph.constant(Literal::scalar_i64(value)))
    }

    /// Counting is the one way from an extent to a number that every backend has.
    fn symbol(&mut self, name: &Symbol) -> Result<Value, DimError> {
        if let Some(&value) = self.counted.get(name) {
            return Ok(value);
        }
        let dim = Dim::symbol(name);
        let Some(low) = self.graph.dim_bounds(&dim).0 else { return Err(DimError::Unbound(name.clone())) };
        let one = self.graph.scalar(DType::I64, 1.0);
        let ones = self.graph.expand(one, vec![dim - Dim::from(low)]);
        let mut value = self.graph.reduce(ones, ReduceKind::Sum, [0], false);
        if low != 0 {
            let low = self.constant(low)?;
            value = self.graph.add(value, low);
        }
        self.counted.insert(name.clone(), value);
        Ok(value)
    }

    fn join(&mut self, join: DimJoin, left: (Value, &Dim), right: (Value, &Dim)) -> Result<Value, DimError> {
        let (mut a, b) = (left.0, right.0);
        let kind = match join {
            DimJoin::Add => BinaryKind::Add,
            DimJoin::Mul => BinaryKind::Mul,
            DimJoin::Mod => BinaryKind::Mod,
            DimJoin::Min => BinaryKind::Min,
            DimJoin::Max => BinaryKind::Max,
            DimJoin::FloorDiv => {
                let low = |dim: &Dim| self.graph.dim_bounds(dim).0;
                if low(left.1).is_none_or(|low| low < 0) || low(right.1).is_none_or(|low| low < 0) {
                    // Integers divide towards zero; what leaves no rest divides the same either way.
                    let rest = self.graph.binary(a, b, BinaryKind::Mod);
                    a = self.graph.sub(a, rest);
                }
                BinaryKind::Div
            }
        };
        Ok(self.graph.binary(a, b, kind))
    }
}
