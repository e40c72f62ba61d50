//! One stage of a run: what was built so far is compiled and run, and its results become known. The next run finds it
//! compiled, where it is the same graph.

use crate::context::Context;
use crate::error::OnnxError;
use crate::host::{HostValue, computed};
use crate::names::Need;
use crate::node::Stop;
use crate::program::bind;
use crate::value::{Bounded, Computed, Content, Feed, Imported, Tensor, Weight};
use rlx_ir::{DType, Dim, Graph, Literal, OpKind, Shape, TensorRef, Value};
use rlx_runtime::{CompiledGraph, Session};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most graphs that one run compiles, one after the other.
const MOST_STAGES: usize = 1 << 12;

/// What a tensor is without running anything.
pub(crate) enum Fixed {
    Constant(Literal),
    Fed(String),
}

/// `tensor`, where it is a constant or a feed.
pub(crate) fn fixed(tensor: &Tensor) -> Result<Option<Fixed>, OnnxError> {
    Ok(match (&tensor.node, &tensor.content) {
        (None, Content::Literal(literal)) => Some(Fixed::Constant(literal.clone())),
        (None, Content::Weight(weight)) => {
            let literal = weight.tensor.literal();
            Some(Fixed::Constant(literal.map_err(|reason| OnnxError::model(weight.name.as_str(), reason))?))
        }
        (None, Content::Fed(feed)) => Some(Fixed::Fed(feed.name.clone())),
        _ => None,
    })
}

/// `tensor` as an output of the outermost graph, in the dtype that ONNX sees.
pub(crate) fn output(cx: &mut Context<'_>, tensor: &Tensor) -> Result<Value, OnnxError> {
    let wrong = |stop: Stop<'_>| match stop {
        Stop::Failed(error) => error,
        Stop::Invalid(message) | Stop::Refused(message) => OnnxError::model("an output", message),
        Stop::Value(_) | Stop::Enter(_) => OnnxError::model("an output", "it is not known"),
    };
    let value = cx.value(tensor).map_err(wrong)?;
    Ok(packed(cx, value, tensor.dtype))
}

fn packed(cx: &mut Context<'_>, value: Value, dtype: DType) -> Value {
    if computed(dtype) == dtype { value } else { cx.graph().encode_storage(value, dtype) }
}

/// Takes the outermost graph, with its symbols bound.
fn take(cx: &mut Context<'_>) -> Result<Graph, OnnxError> {
    if cx.bind_symbols().is_err() {
        return Err(OnnxError::model(cx.model().source(), "an input that binds an extent cannot be read"));
    }
    Ok(cx.take_graph().finish()?)
}

/// Compiles the outermost graph with its weights bound.
pub(crate) fn compile(cx: &mut Context<'_>, session: &Session) -> Result<CompiledGraph, OnnxError> {
    let graph = take(cx)?;
    with_weights(cx, session, graph)
}

fn with_weights(cx: &Context<'_>, session: &Session, graph: Graph) -> Result<CompiledGraph, OnnxError> {
    let mut compiled = session.compile(graph)?;
    bind(cx, &mut compiled)?;
    Ok(compiled)
}

/// Most stages that are kept, and most bytes that they take without the weights that lie in the file.
const MOST_FORMS: usize = 32;
const MOST_BYTES: u64 = 256 << 20;

/// Stages of earlier runs, compiled and with their weights, the one that was used last at the end.
#[derive(Default)]
pub(crate) struct StageForms(Vec<StageForm>);

struct StageForm {
    graph: Graph,
    weights: Vec<Arc<Weight>>,
    compiled: CompiledGraph,
    bytes: u64,
}

impl StageForms {
    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The outermost graph with its weights bound: one of an earlier run, where that is the same.
    fn compiled(&mut self, cx: &mut Context<'_>, session: &Session) -> Result<&mut CompiledGraph, OnnxError> {
        let graph = take(cx)?;
        let names = graph.nodes_of(OpKind::Param).filter_map(|(_, node)| node.op.leaf_name());
        let weights: Vec<Arc<Weight>> = names.filter_map(|name| cx.weights.get(name).cloned()).collect();
        // Bodies may name weights alike; those that are kept here are alive, so that no others lie in their place.
        let place = |weight: &Arc<Weight>| weight.tensor.bytes.as_ptr_range();
        let is_same = |form: &StageForm| {
            form.graph == graph && form.weights.iter().map(place).eq(weights.iter().map(place))
        };
        match self.0.iter().position(is_same) {
            Some(index) => self.0[index..].rotate_left(1),
            None => {
                let compiled = with_weights(cx, session, graph.clone())?;
                let uses = compiled.memory_estimate(&cx.bindings)?;
                let bytes = uses.total().saturating_sub(uses.weights);
                self.0.push(StageForm { graph, weights, compiled, bytes });
                let is_too_much = |forms: &[StageForm]| {
                    forms.len() > MOST_FORMS || forms.iter().map(|form| form.bytes).sum::<u64>() > MOST_BYTES
                };
                while self.0.len() > 1 && is_too_much(&self.0) {
                    self.0.remove(0);
                }
            }
        }
        let last = self.0.last_mut().map(|form| &mut form.compiled);
        last.ok_or_else(|| OnnxError::model("a stage of the run", "it was not kept"))
    }
}

/// Runs what was built so far. Afterwards every tensor that the walk may still read, and those of `results`, are on
/// the host, with extents that are numbers.
pub(crate) fn run(
    cx: &mut Context<'_>,
    (session, forms): (&Session, &mut StageForms),
    need: Option<&Need>,
    results: &mut [Imported],
) -> Result<(), OnnxError> {
    if cx.stage() == MOST_STAGES {
        let message = format!("values are looked at more than {MOST_STAGES} times: a loop may never end");
        return Err(OnnxError::model(cx.model().source(), message));
    }
    let mut wanted: BTreeMap<Value, (usize, DType)> = BTreeMap::new();
    let mut note = |node: Computed, dtype: DType| {
        let count = wanted.len();
        wanted.entry(node.value).or_insert((count, dtype));
    };
    let mut symbolic: Vec<Tensor> = vec![];
    let mut visit = |tensor: &mut Tensor| {
        if let Some(node) = tensor.node {
            note(node, tensor.dtype);
        } else if let Content::Dims(_) | Content::Ratios(..) = &tensor.content {
            symbolic.push(tensor.clone());
        }
        if let Some(Bounded { count, .. }) = tensor.bounded {
            note(count, DType::I64);
        }
    };
    cx.live_tensors(&mut visit);
    results.iter_mut().for_each(|result| result.tensors_mut(&mut visit));
    let mut order: Vec<(usize, Value, DType)> =
        wanted.iter().map(|(&value, &(at, dtype))| (at, value, dtype)).collect();
    order.sort_unstable();
    if order.is_empty() && need.is_some() && symbolic.is_empty() {
        // Nothing to compute, and yet something is unknown: only a rule that asks for the wrong thing does that.
        let need = need.map(|need| format!("{need:?}")).unwrap_or_default();
        return Err(OnnxError::model(need, "the value cannot be computed"));
    }
    let literals = if order.is_empty() { vec![] } else { execute(cx, (session, forms), &order)? };
    let literal_of = |node: Computed| wanted.get(&node.value).and_then(|&(at, _)| literals.get(at));
    let stage = cx.stage();
    let bindings = cx.bindings.clone();
    let bound = |dim: &Dim| dim.eval(&bindings).map_or_else(|_| dim.clone(), Dim::from);
    let mut failure = None;
    let mut settle = |tensor: &mut Tensor| {
        let settled = settled(tensor, &literal_of, stage, &bound);
        match settled {
            Ok(settled) => *tensor = settled,
            Err(error) => failure = Some(error),
        }
    };
    cx.live_tensors(&mut settle);
    results.iter_mut().for_each(|result| result.tensors_mut(&mut settle));
    failure.map_or(Ok(()), Err)
}

fn execute(
    cx: &mut Context<'_>,
    (session, forms): (&Session, &mut StageForms),
    order: &[(usize, Value, DType)],
) -> Result<Vec<Literal>, OnnxError> {
    for &(at, value, dtype) in order {
        let dtype = dtype_of(cx, value, dtype);
        let value = packed(cx, value, dtype);
        cx.graph().output(format!("value{at}"), value);
    }
    let compiled = forms.compiled(cx, session)?;
    let feeds = std::mem::take(&mut cx.feeds);
    let feeds: Vec<(&str, TensorRef<'_>)> =
        feeds.iter().map(|(name, literal)| (name.as_str(), TensorRef::from(literal))).collect();
    let outputs = compiled.run_typed(&feeds)?;
    Ok(outputs.into_iter().map(|(_, literal)| literal).collect())
}

/// The dtype in which a value leaves the graph: counts are what they are.
fn dtype_of(cx: &mut Context<'_>, value: Value, dtype: DType) -> DType {
    match cx.graph().try_ty(value) {
        Some(ty) if ty.dtype != computed(dtype) => ty.dtype,
        _ => dtype,
    }
}

fn settled<'a>(
    tensor: &Tensor,
    literal_of: &impl Fn(Computed) -> Option<&'a Literal>,
    stage: usize,
    bound: &impl Fn(&Dim) -> Dim,
) -> Result<Tensor, OnnxError> {
    let fault = |error: String| OnnxError::model("a stage of the run", error);
    let mut settled = tensor.clone();
    settled.shape = Shape::new(tensor.shape.dims().iter().map(bound));
    let extents = || tensor.shape.as_static().unwrap_or_default();
    let all = |dims: &[Dim]| dims.iter().map(bound).collect();
    match &tensor.content {
        Content::Dims(dims) => return Ok(Tensor::expressions(tensor.dtype, &extents(), all(dims))),
        Content::Ratios(dims, divisor) => {
            return Ok(Tensor::ratios(tensor.dtype, &extents(), all(dims), *divisor));
        }
        _ => {}
    }
    let Some(node) = tensor.node else { return Ok(settled) };
    let literal = literal_of(node).ok_or_else(|| fault("a value was not computed".into()))?;
    let literal = match tensor.bounded {
        None => literal.clone(),
        Some(Bounded { axis, count }) => {
            let count = literal_of(count).and_then(|count| count.to_ints().first().copied());
            let count = count.and_then(|count| usize::try_from(count).ok());
            let first = count.and_then(|count| first_along(literal, axis, count));
            first.ok_or_else(|| fault(format!("a count of {literal:?} is not inside it")))?
        }
    };
    settled.shape = Shape::from(literal.dims());
    let name = format!("stage{stage}.{}.{}", node.value.node.0, node.value.result);
    // A part of a bounded value is another value than the whole.
    let name = if tensor.bounded.is_some() { format!("{name}.part") } else { name };
    settled.content = Content::Fed(Arc::new(Feed { name, literal }));
    (settled.node, settled.bounded) = (None, None);
    Ok(settled)
}

/// The first `count` elements along `axis`.
pub(crate) fn first_along(literal: &Literal, axis: usize, count: usize) -> Option<Literal> {
    let mut dims = literal.dims().to_vec();
    let (outer, extent) = (dims[..axis].iter().product::<usize>(), *dims.get(axis)?);
    let width = literal.dtype().size_of()? * dims[axis + 1..].iter().product::<usize>();
    if count > extent {
        return None;
    }
    dims[axis] = count;
    let part = |row: usize| &literal.bytes()[row * extent * width..row * extent * width + count * width];
    let bytes: Vec<u8> = (0..outer).flat_map(|row| part(row).iter().copied()).collect();
    Literal::from_bytes(literal.dtype(), &dims, &bytes).ok()
}

/// A settled value on the host.
pub(crate) fn host(value: Imported) -> Result<HostValue, OnnxError> {
    Ok(match value {
        Imported::Strings(strings) => HostValue::Strings(strings),
        Imported::Sequence(items) => {
            HostValue::Sequence(items.into_iter().map(host).collect::<Result<_, _>>()?)
        }
        Imported::Optional(value) => {
            HostValue::Optional(value.map(|value| host(*value).map(Box::new)).transpose()?)
        }
        Imported::Tensor(tensor) => match &tensor.content {
            Content::Fed(feed) => HostValue::Tensor(feed.literal.clone()),
            _ => match fixed(&tensor)? {
                Some(Fixed::Constant(literal)) => HostValue::Tensor(literal),
                _ => return Err(OnnxError::model("a result", "it was not computed")),
            },
        },
    })
}
