//! `insert_checks`: what happens to integer operands with values that their op does not take.
//!
//! ```text
//! %y = gather %table, %i {axis = 0}    =>    %c = clamp %i, %zero, %last       with checks = clamp
//!                                            %y = gather %table, %c {axis = 0}
//!
//! %y = gather %table, %i {axis = 0}    =>    %y = gather %table, %i {axis = 0} with checks = on, where
//!                                            %o = compare %i, %rows {kind = ge}      kernels do not check
//!                                            ..
//!                                            %w = reduce %p {kind = min, ..}
//!                                            output "faults" = %w
//! ```
//!
//! The ranges are those that ops declare ([`rlx_ir::ValueRange`]). A check gives one word: the position of the first
//! element outside, or `i64::MAX` where there is none; the words of all checks are the last output of the graph, and
//! the notes say in the same order what each word checks. Where kernels check values themselves, nothing is inserted
//! but clamps; then checks cannot be off. An empty range cannot be clamped to: a value of it stays a fault.
//!
//! Preconditions: none. Ops stand as the caller wrote them where the pass runs before `decompose_unclaimed`, and
//! their definitions fault on no value that passes. It does not decide what an unchecked access does.

use crate::options::Checks;
use crate::pass::{OptError, Pass, PassContext};
use crate::rewrite::{Remark, Rewriter, Rewritten};
use rlx_ir::lir::{FaultCheck, node_origin};
use rlx_ir::ops::{CompareKind, ReduceKind};
use rlx_ir::{DType, Dim, Graph, Literal, Shape, TensorType, Value, ValueRange, ValueWindow};

/// See the module.
pub struct InsertChecks;

impl Pass for InsertChecks {
    fn name(&self) -> &'static str {
        "insert_checks"
    }

    fn run(&self, graph: Graph, context: &PassContext<'_>) -> Result<Rewritten, OptError> {
        let (policy, native) = (context.options.checks, context.capabilities.checks_values);
        match (policy, native) {
            (Checks::Off, true) => {
                let name = context.capabilities.name;
                let reason = format!("the kernels of {name} check values always; choose on or clamp");
                return Err(OptError::Option { option: "checks", reason });
            }
            (Checks::On, true) | (Checks::Off, false) => return Ok(Rewritten::unchanged(graph)),
            (Checks::On, false) | (Checks::Clamp, _) => {}
        }
        let clamps = policy == Checks::Clamp;
        let mut rewriter = Rewriter::new(&graph);
        let mut words = vec![];
        for (id, node) in graph.iter() {
            let types: Vec<&TensorType> = node.operands.iter().map(|&operand| graph.ty(operand)).collect();
            rewriter.begin([id]);
            rewriter.new.set_path(&node.origin.path);
            let mut operands = rewriter.operands(node);
            for range in node.op.value_ranges(&types).iter().filter(|range| !range.windows.is_empty()) {
                let name = node.op.operand_name(range.operand);
                if clamps {
                    operands[range.operand] = clamped(&mut rewriter.new, operands[range.operand], range);
                    rewriter.note(id, Remark::Clamped(name));
                }
                if !native && (!clamps || may_be_empty(&graph, range)) {
                    words.push(fault_word(&mut rewriter.new, &operands, range));
                    let node = node_origin(&graph, id);
                    rewriter.note(id, Remark::Checked(FaultCheck { node, operand: name.into() }));
                }
            }
            let values = rewriter.push(node, &operands)?;
            rewriter.map(id, values);
        }
        rewriter.new.set_path("");
        let faults = (!words.is_empty()).then(|| rewriter.new.concat(&words, 0usize));
        let mut rewritten = rewriter.finish()?;
        if let Some(faults) = faults {
            let name = free_name(&rewritten.graph);
            rewritten.graph.output(name, faults);
        }
        Ok(rewritten)
    }
}

/// A name that no output has.
fn free_name(graph: &Graph) -> String {
    let mut name = "faults".to_owned();
    while graph.outputs().iter().any(|output| output.name == name) {
        name.push('_');
    }
    name
}

/// Can the symbols be such that no value lies in the range?
fn may_be_empty(graph: &Graph, range: &ValueRange) -> bool {
    let low = |window: &ValueWindow| graph.dim_bounds(&window.limit()).0;
    range.windows.iter().any(|window| low(window).is_none_or(|low| low < 1))
}

/// `x` with every value moved to the nearest one of its range.
fn clamped(g: &mut Graph, x: Value, range: &ValueRange) -> Value {
    let dtype = g.ty(x).dtype;
    let most = match dtype {
        DType::I32 => Some(i64::from(i32::MAX)),
        DType::U32 => Some(i64::from(u32::MAX)),
        _ => None,
    };
    let last = |window: &ValueWindow| {
        let last = (window.limit() - Dim::from(1)).maximum(&Dim::from(0));
        most.map_or(last.clone(), |most| last.minimum(&Dim::from(most)))
    };
    let high = per_window(g, dtype, range, last);
    let low = g.scalar(dtype, 0.0);
    let moved = g.clamp(x, Some(low), Some(high));
    match is_except(g, x, range) {
        Some(is_except) => g.r#where(is_except, x, moved),
        None => moved,
    }
}

/// Where `x` has the value that the range leaves out.
fn is_except(g: &mut Graph, x: Value, range: &ValueRange) -> Option<Value> {
    let except = g.constant(Literal::scalar_i64(range.except?));
    let wide = g.cast_to(x, DType::I64);
    Some(g.compare(wide, except, CompareKind::Eq))
}

/// The position of the first element outside `range` as `i64[1]`, or `i64::MAX`.
fn fault_word(g: &mut Graph, operands: &[Value], range: &ValueRange) -> Value {
    let shape = g.ty(operands[range.operand]).shape.clone();
    let wide = |g: &mut Graph, operand: usize| g.cast_to(operands[operand], DType::I64);
    let (x, zero) = (wide(g, range.operand), g.scalar(DType::I64, 0.0));
    let limit = per_window(g, DType::I64, range, ValueWindow::limit);
    let below = g.compare(x, zero, CompareKind::Lt);
    let beyond = g.compare(x, limit, CompareKind::Ge);
    let mut outside = g.or(below, beyond);
    if range.windows.iter().any(|window| g.dim_bounds(&window.len).0.is_none_or(|low| low < 1)) {
        let touched = per_window(g, DType::I64, range, |window| window.len.clone());
        let touches = g.compare(touched, zero, CompareKind::Gt);
        outside = g.and(outside, touches);
    }
    if let Some(part) = &range.used {
        let lengths = wide(g, part.lengths);
        let lengths = g.reshape(lengths, vec![shape[0].clone(), Dim::from(1)]);
        let number = g.iota(DType::I64, vec![Dim::from(1), shape[1].clone()], 1usize);
        let step = g.constant(Literal::scalar_i64(part.step as i64));
        let first = g.mul(number, step);
        let used = g.compare(first, lengths, CompareKind::Lt);
        outside = g.and(outside, used);
    }
    if let Some(is_except) = is_except(g, x, range) {
        let counts = g.not(is_except);
        outside = g.and(outside, counts);
    }
    let count = vec![shape.num_elements()];
    let outside = g.reshape(outside, count.clone());
    let position = g.iota(DType::I64, count, 0usize);
    let none = g.constant(Literal::scalar_i64(i64::MAX));
    let found = g.r#where(outside, position, none);
    g.reduce(found, ReduceKind::Min, vec![0], true)
}

/// What `of` gives for each window: one value of shape `[]`, or a vector along the last axis of the operand.
fn per_window(g: &mut Graph, dtype: DType, range: &ValueRange, of: impl Fn(&ValueWindow) -> Dim) -> Value {
    let dims: Vec<Dim> = range.windows.iter().map(of).collect();
    let fixed: Option<Vec<i128>> = dims.iter().map(|dim| dim.as_static().map(i128::from)).collect();
    let single = dims.len() == 1;
    if let Some(values) = fixed {
        let extents = [values.len()];
        return g.constant(
            Literal::ints(dtype, if single { &[] } else { &extents }, &values)
                .expect("one value per element"),
        );
    }
    let values: Vec<Value> = dims.into_iter().map(|dim| extent(g, dtype, dim)).collect();
    if single { g.reshape(values[0], Shape::scalar()) } else { g.concat(&values, 0usize) }
}

/// An extent, known once symbols are bound, as a value of shape `[1]`: the sum of as many ones.
fn extent(g: &mut Graph, dtype: DType, dim: Dim) -> Value {
    let ones = g.full(dtype, vec![dim], 1.0);
    g.reduce(ones, ReduceKind::Sum, vec![0], true)
}
