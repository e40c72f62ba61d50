//! The derivatives of whole graphs.

use crate::error::AutodiffError;
use crate::forward::{Tangents, push_forward};
use crate::graphs::{all_different, copied, differentiable, differentiable_leaf, finished, is_real, output};
use crate::reverse::{Recomputation, pull_back, widen};
use rlx_ir::reverse::{Cotangents, accumulate, active};
use rlx_ir::{Graph, Node, NodeId, Output, TensorType, Value};
use std::collections::BTreeSet;

/// Where the cotangents of the outputs come from.
enum Seeds<'a> {
    /// One output, a real number, has the cotangent 1.
    One(&'a str),
    /// Each of these outputs has an input `cotangent:OUTPUT`.
    Fed(&'a [&'a str]),
}

/// The graph whose outputs are `grad:NAME`, the gradient of `output` by each of `with_respect_to`.
///
/// # Errors
/// Unknown or repeated names, an output that is not one real number, an integer input, and an op on the way
/// that has no reverse derivative.
pub fn grad(graph: &Graph, output: &str, with_respect_to: &[&str]) -> Result<Graph, AutodiffError> {
    let (mut built, _, gradients) = reversed(graph, &Seeds::One(output), with_respect_to, |_, _| None)?;
    built.set_outputs(gradients);
    finished(built)
}

/// As [`grad`], the outputs of `graph` before the gradients.
///
/// # Errors
/// As [`grad`].
pub fn value_and_grad(graph: &Graph, output: &str, with_respect_to: &[&str]) -> Result<Graph, AutodiffError> {
    checkpointed(graph, output, with_respect_to, |_, _| None)
}

/// As [`value_and_grad`], but nodes to which `segment` gives a number are computed again for the reverse walk,
/// those of one number together, so that only what such a segment reads is kept until then.
///
/// A segment is computed when its first cotangent is there: a `barrier` on what it reads waits for that and
/// keeps common subexpressions apart. Leaves are never computed again.
///
/// # Errors
/// As [`grad`].
pub fn checkpointed(
    graph: &Graph,
    output: &str,
    with_respect_to: &[&str],
    segment: impl Fn(NodeId, &Node) -> Option<usize>,
) -> Result<Graph, AutodiffError> {
    let (mut built, outputs, gradients) = reversed(graph, &Seeds::One(output), with_respect_to, segment)?;
    built.set_outputs(outputs.into_iter().chain(gradients));
    finished(built)
}

/// The graph that takes a cotangent of each of `outputs` as an input `cotangent:OUTPUT`, and gives the outputs
/// of `graph`, then `grad:NAME` for each of `with_respect_to`.
///
/// # Errors
/// Unknown or repeated names, integers, and an op on the way that has no reverse derivative.
pub fn vjp(graph: &Graph, outputs: &[&str], with_respect_to: &[&str]) -> Result<Graph, AutodiffError> {
    all_different("output", outputs)?;
    let (mut built, kept, gradients) = reversed(graph, &Seeds::Fed(outputs), with_respect_to, |_, _| None)?;
    built.set_outputs(kept.into_iter().chain(gradients));
    finished(built)
}

/// Segments for [`checkpointed`] by block: the nodes of block `PREFIX.N`, and of blocks in it, have the number `N`.
///
/// A policy is a condition more: leaving out the nodes that are dear to compute, products say, keeps their results.
pub fn by_block(prefix: &str) -> impl Fn(NodeId, &Node) -> Option<usize> {
    let start = format!("{prefix}.");
    move |_, node| node.origin.path.strip_prefix(&start)?.split('.').next()?.parse().ok()
}

type Named = Vec<(String, Value)>;

fn named(outputs: &[Output]) -> Named {
    outputs.iter().map(|output| (output.name.clone(), output.value)).collect()
}

/// A graph with everything in it, the outputs of `graph`, and the gradients.
fn reversed(
    graph: &Graph,
    seeds: &Seeds<'_>,
    with_respect_to: &[&str],
    segment: impl Fn(NodeId, &Node) -> Option<usize>,
) -> Result<(Graph, Named, Named), AutodiffError> {
    all_different("input or param", with_respect_to)?;
    let sources = with_respect_to.iter().map(|name| differentiable_leaf(graph, name));
    let sources: Vec<Value> = sources.collect::<Result<_, _>>()?;
    let count = graph.nodes().len();
    let active = active(graph, 0..count, sources.iter().copied().collect::<BTreeSet<_>>());
    let mut built = copied(graph)?;
    widen(&mut built, 0..count, &active)?;
    let mut cotangents = Cotangents::new();
    for (value, cotangent) in seeded(&mut built, graph, seeds)? {
        if active.contains(&value) {
            accumulate(&mut built, &mut cotangents, value, cotangent);
        }
    }
    let movable = graph.iter().filter(|(_, node)| !node.operands.is_empty());
    let segments = movable.filter_map(|(id, node)| Some((id, segment(id, node)?)));
    let mut again = Recomputation::of_segments(segments.collect());
    pull_back(&mut built, 0..count, &active, &mut cotangents, &mut again)?;
    let mut gradients = vec![];
    for (name, source) in with_respect_to.iter().zip(sources) {
        let gradient = match cotangents.get(&source) {
            Some(&cotangent) => cotangent,
            None => built.zeros_like(source),
        };
        gradients.push((format!("grad:{name}"), gradient));
    }
    Ok((built, named(graph.outputs()), gradients))
}

/// Values of `graph` with the cotangents that they start with.
fn seeded(built: &mut Graph, graph: &Graph, seeds: &Seeds<'_>) -> Result<Vec<(Value, Value)>, AutodiffError> {
    match *seeds {
        Seeds::One(name) => {
            let value = output(graph, name)?;
            let ty = graph.ty(value);
            if !is_real(ty.dtype) || !ty.shape.num_elements().is(1) {
                return Err(AutodiffError::NotScalar { name: name.into(), ty: ty.clone() });
            }
            Ok(vec![(value, built.ones_like(value))])
        }
        Seeds::Fed(names) => {
            let seed = |name: &&str| {
                let value = output(graph, name)?;
                differentiable("output", name, graph.ty(value))?;
                Ok((value, built.input(format!("cotangent:{name}"), graph.ty(value).clone())))
            };
            names.iter().map(seed).collect()
        }
    }
}

/// The graph that takes a tangent of each of `with_respect_to` as an input `tangent:NAME`, and gives the outputs
/// of `graph`, then `tangent:OUTPUT` for each of them that has derivatives.
///
/// # Errors
/// Unknown or repeated names, an integer input, and an op on the way that has no forward derivative.
pub fn jvp(graph: &Graph, with_respect_to: &[&str]) -> Result<Graph, AutodiffError> {
    all_different("input or param", with_respect_to)?;
    let mut built = copied(graph)?;
    let mut tangents = Tangents::new();
    for name in with_respect_to {
        let source = differentiable_leaf(graph, name)?;
        let ty: TensorType = graph.ty(source).clone();
        tangents.insert(source, built.input(format!("tangent:{name}"), ty));
    }
    push_forward(&mut built, 0..graph.nodes().len(), &mut tangents)?;
    let mut outputs = named(graph.outputs());
    for output in graph.outputs() {
        if graph.ty(output.value).dtype.is_differentiable() {
            let tangent = match tangents.get(&output.value) {
                Some(&tangent) => tangent,
                None => built.zeros_like(output.value),
            };
            outputs.push((format!("tangent:{}", output.name), tangent));
        }
    }
    built.set_outputs(outputs);
    finished(built)
}

/// The graph that takes a vector for each of `with_respect_to` as an input `tangent:NAME`, and gives `grad:NAME`,
/// the gradient of `output`, then `hvp:NAME`, its second derivative times the vectors.
///
/// # Errors
/// As [`grad`] and [`jvp`].
pub fn hvp(graph: &Graph, output: &str, with_respect_to: &[&str]) -> Result<Graph, AutodiffError> {
    let mut built = jvp(&grad(graph, output, with_respect_to)?, with_respect_to)?;
    let renamed = |(name, value): (String, Value)| match name.strip_prefix("tangent:grad:") {
        Some(name) => (format!("hvp:{name}"), value),
        None => (name, value),
    };
    let outputs: Named = named(built.outputs()).into_iter().map(renamed).collect();
    built.set_outputs(outputs);
    Ok(built)
}
