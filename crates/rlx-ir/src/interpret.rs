//! The reference interpreter: naive, single-threaded, right.
//!
//! Floats are computed in `f64` and rounded to the dtype once per op; integers
//! are exact and wrap. Every pass, kernel and backend is compared with it.

use crate::diagnostic::{Diagnostic, IrError};
use crate::dim::{Bindings, Dim, Symbol};
use crate::graph::{Graph, Node, SymbolBounds, Value};
use crate::layout::Layout;
use crate::literal::{Literal, element_count};
use crate::number::Number;
use crate::op::{Evaluated, Fault};
use crate::ops::{Op, OpKind, for_each_index};
use crate::scalar::ScalarProgram;
use crate::shape::TensorType;
use std::collections::BTreeMap;

/// Most elements of a result, so that no graph of a few bytes exhausts memory or runs for ever.
pub const MOST_ELEMENTS: usize = 1 << 26;

/// Named host tensors.
pub type Tensors = BTreeMap<String, Literal>;

/// What a run of a graph gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// The outputs, in order.
    pub outputs: Vec<(String, Literal)>,
    /// New contents of updated states.
    pub states: Tensors,
}

/// Runs `graph`. `feeds` holds inputs, params and states by name; symbols are
/// bound from their shapes.
///
/// # Errors
/// Inputs that are missing, of the wrong type or contradictory in a symbol, all
/// at once; or the fault of the first op that refuses its values.
pub fn evaluate(graph: &Graph, feeds: &Tensors) -> Result<Evaluation, IrError> {
    let bindings = bind_feeds(graph, feeds)?;
    evaluate_bound(graph, feeds, &bindings)
}

/// Runs `graph` with every symbol already bound.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_bound(graph: &Graph, feeds: &Tensors, bindings: &Bindings) -> Result<Evaluation, IrError> {
    let mut values: BTreeMap<Value, Literal> = BTreeMap::new();
    for (id, node) in graph.iter() {
        let operands: Vec<&Literal> = node.operands.iter().map(|operand| &values[operand]).collect();
        let results = match node.op.leaf_name().and_then(|name| feeds.get(name)) {
            Some(fed) if node.op.kind() != OpKind::Constant => Ok(vec![fed.clone()]),
            _ => evaluate_node(node, &operands, bindings),
        };
        let results = results.map_err(|fault| IrError::Fault {
            node: format!("%{} {}", id.0, node.op.def().name),
            fault: fault.0,
        })?;
        for (result, literal) in results.into_iter().enumerate() {
            values.insert(Value { node: id, result: result as u32 }, literal);
        }
    }
    let take = |value: Value| values[&value].clone();
    Ok(Evaluation {
        outputs: graph.outputs().iter().map(|output| (output.name.clone(), take(output.value))).collect(),
        states: graph.updates().iter().map(|update| (update.name.clone(), take(update.value))).collect(),
    })
}

/// Evaluates one op on concrete operands, whatever gives it its meaning.
///
/// # Errors
/// The op's fault, or a result of more than [`MOST_ELEMENTS`].
pub fn evaluate_op(op: &Op, operands: &[&Literal]) -> Evaluated {
    let types: Vec<TensorType> = operands.iter().map(|literal| literal.ty()).collect();
    let types =
        op.infer(&types.iter().collect::<Vec<_>>()).map_err(|violation| Fault(violation.to_string()))?;
    for ty in &types {
        let count = ty.shape.as_static().as_deref().and_then(element_count);
        if count.is_none_or(|count| count > MOST_ELEMENTS) {
            let limit = format!("at most {MOST_ELEMENTS} elements of known extents");
            return Err(Fault(format!("{ty} is not evaluated: a result has {limit}")));
        }
    }
    let meaning = op.meaning();
    if let Some(eval) = meaning.eval {
        return eval(operands);
    }
    let dtypes: Vec<_> = operands.iter().map(|literal| literal.dtype()).collect();
    if let Some(program) = op.scalar_program(&dtypes) {
        return evaluate_program(&program, operands, &types);
    }
    if let Some(rule) = meaning.view {
        let layout = rule(&Layout::dense(&operands[0].ty().shape), &types[0])
            .ok_or_else(|| Fault("a movement op refused a dense operand".into()))?;
        return read_layout(operands[0], &layout, &types[0]).map(|literal| vec![literal]);
    }
    match meaning.decompose {
        Some(rule) => evaluate_decomposition(op, &*rule, operands),
        None => Err(Fault("has no value: it was not fed".into())),
    }
}

/// Evaluates an op through its decomposition.
///
/// # Errors
/// A decomposition that does not build, or the fault of one of its ops.
pub fn evaluate_decomposition(
    op: &Op,
    rule: &dyn Fn(&mut Graph, &[Value]) -> Vec<Value>,
    operands: &[&Literal],
) -> Evaluated {
    let mut graph = Graph::new(op.def().name);
    let mut feeds = Tensors::new();
    let mut inputs = vec![];
    for (index, literal) in operands.iter().enumerate() {
        let name = format!("operand{index}");
        inputs.push(graph.input(name.as_str(), literal.ty()));
        feeds.insert(name, (*literal).clone());
    }
    for (index, value) in rule(&mut graph, &inputs).into_iter().enumerate() {
        graph.output(format!("result{index}"), value);
    }
    let graph =
        graph.finish().map_err(|error| Fault(format!("its decomposition does not build: {error}")))?;
    let evaluation = evaluate(&graph, &feeds).map_err(|error| Fault(error.to_string()))?;
    Ok(evaluation.outputs.into_iter().map(|(_, literal)| literal).collect())
}

fn evaluate_node(node: &Node, operands: &[&Literal], bindings: &Bindings) -> Evaluated {
    let bound = node.op.map_dims(&|dim: &Dim| dim.eval(bindings).map_or_else(|_| dim.clone(), Dim::from));
    evaluate_op(&bound, operands)
}

fn evaluate_program(program: &ScalarProgram, operands: &[&Literal], types: &[TensorType]) -> Evaluated {
    let dims = types.first().and_then(|ty| ty.shape.as_static()).unwrap_or_default();
    let mut columns: Vec<Vec<Number>> = vec![vec![]; types.len()];
    for_each_index(&dims, |index| {
        let inputs: Vec<Number> = operands
            .iter()
            .map(|literal| literal.number(crate::ops::broadcast_position(literal.dims(), index)))
            .collect();
        for (column, number) in columns.iter_mut().zip(program.eval(&inputs, index)) {
            column.push(number);
        }
    });
    types
        .iter()
        .zip(columns)
        .map(|(ty, column)| {
            Literal::from_numbers(ty.dtype, &dims, column).map_err(|error| Fault(error.to_string()))
        })
        .collect()
}

/// Copies the elements that `layout` names into a dense literal. Works on
/// whole bytes, so it is exact for every dtype but the storage-only ones,
/// which go element by element.
fn read_layout(source: &Literal, layout: &Layout, ty: &TensorType) -> Result<Literal, Fault> {
    let fixed = |dim: &Dim| dim.as_static().ok_or_else(|| Fault(format!("{dim} is not bound")));
    let dims =
        ty.shape.as_static().ok_or_else(|| Fault(format!("{ty} has a symbolic or negative extent")))?;
    let offset = fixed(&layout.offset)?;
    let strides = layout.strides.iter().map(fixed).collect::<Result<Vec<_>, _>>()?;
    if source.dtype().is_storage_only() {
        // Only a dense layout is legal here, and it keeps the bytes.
        return source
            .reshaped(&dims)
            .filter(|_| layout.is_dense() && layout.offset.is(0))
            .ok_or_else(|| Fault(format!("{} cannot be viewed as {ty}", source.ty())));
    }
    let width = source.dtype().size_of().unwrap_or(1);
    let mut bytes = vec![];
    let mut outside = None;
    for_each_index(&dims, |index| {
        let element = index.iter().zip(&strides).fold(offset, |at, (&i, stride)| at + i as i64 * stride);
        let start = usize::try_from(element).ok().and_then(|element| element.checked_mul(width));
        match start.and_then(|start| source.bytes().get(start..start + width)) {
            Some(element) => bytes.extend_from_slice(element),
            None => outside = Some(element),
        }
    });
    if let Some(element) = outside {
        return Err(Fault(format!("reads element {element} of {}, which has {}", source.ty(), source.len())));
    }
    Literal::from_bytes(ty.dtype, &dims, &bytes).map_err(|error| Fault(error.to_string()))
}

/// Binds symbols from the shapes of what is fed, and checks every feed.
///
/// # Errors
/// All findings at once: missing or unknown names, wrong dtypes or ranks,
/// extents that contradict, symbols that nothing binds, values out of bounds.
pub fn bind_feeds(graph: &Graph, feeds: &Tensors) -> Result<Bindings, IrError> {
    let mut findings = vec![];
    let mut bindings = Bindings::new();
    let mut known = vec![];
    for (_, node) in graph.iter() {
        let Some(name) = node.op.leaf_name() else { continue };
        known.push(name);
        let subject = format!("{} \"{name}\"", node.op.kind());
        match feeds.get(name) {
            None => {
                findings.push(Diagnostic::new(subject, format!("is missing; expected {}", node.types[0])))
            }
            Some(literal) => match bind_shape(&node.types[0], literal.dtype(), literal.dims(), &mut bindings)
            {
                Ok(()) => {}
                Err(message) => findings.push(Diagnostic::new(subject, message)),
            },
        }
    }
    for name in feeds.keys().filter(|name| !known.contains(&name.as_str())) {
        let hint = format!("the graph has {}", known.join(", "));
        findings.push(Diagnostic::new(format!("\"{name}\""), "is not an input, param or state").hint(hint));
    }
    if findings.is_empty() {
        let leaves = graph.iter().filter_map(|(_, node)| {
            let name = node.op.leaf_name()?;
            Some((format!("{} \"{name}\"", node.op.kind()), &node.types[0], feeds.get(name)?.dims()))
        });
        check_extents(graph.symbols(), leaves, &bindings, &mut findings);
    }
    if findings.is_empty() { Ok(bindings) } else { Err(IrError::Inputs(findings)) }
}

/// Binds the symbols of `ty` that stand alone as a dim (or alone with a
/// constant factor and term) from concrete extents.
///
/// # Errors
/// A dtype, rank or extent that does not fit.
pub fn bind_shape(
    ty: &TensorType,
    dtype: crate::dtype::DType,
    dims: &[usize],
    bindings: &mut Bindings,
) -> Result<(), String> {
    let found = || TensorType::new(dtype, dims);
    if ty.dtype != dtype || ty.rank() != dims.len() {
        return Err(format!("expected {ty}, found {}", found()));
    }
    for (dim, &extent) in ty.shape.dims().iter().zip(dims) {
        let extent = extent as i64;
        if let Some(symbol) = dim.as_symbol() {
            match bindings.get(symbol) {
                Some(value) if value != extent => {
                    return Err(format!("expected {ty} with {symbol} = {value}, found {}", found()));
                }
                Some(_) => {}
                None => bindings.set(symbol, extent),
            }
        } else if dim.as_static().is_some_and(|expected| expected != extent) {
            return Err(format!("expected {ty}, found {}", found()));
        } else if let Some((symbol, value)) = dim.solve_for_symbol(extent) {
            match value {
                Some(value) if bindings.get(&symbol).is_none() => bindings.set(&symbol, value),
                Some(_) => {}
                None => {
                    return Err(format!(
                        "expected {ty}, found {}: no {symbol} gives {dim} = {extent}",
                        found()
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Checks that every symbol is bound, within its bounds, and that the extents of `leaves` (what to call one, its type,
/// what was given) agree with the symbols that others bound.
pub fn check_extents<'a>(
    symbols: &BTreeMap<Symbol, SymbolBounds>,
    leaves: impl IntoIterator<Item = (String, &'a TensorType, &'a [usize])>,
    bindings: &Bindings,
    findings: &mut Vec<Diagnostic>,
) {
    for (symbol, bounds) in symbols {
        let message = match bindings.get(symbol) {
            None => "is bound by no input".to_string(),
            Some(value) if value < bounds.min || bounds.max.is_some_and(|max| value > max) => {
                format!("is {value}, outside {bounds}")
            }
            Some(_) => continue,
        };
        findings.push(Diagnostic::new(format!("symbol {symbol}"), message));
    }
    for (subject, ty, dims) in leaves {
        if ty.shape.eval(bindings).is_ok_and(|expected| expected != dims) {
            let found = TensorType::new(ty.dtype, dims);
            findings.push(Diagnostic::new(subject, format!("expected {ty}, found {found}")));
        }
    }
}
