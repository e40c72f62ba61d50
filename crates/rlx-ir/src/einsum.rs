//! Einstein summation as a builder helper: an equation becomes sums, `dot_general`s and a transpose.
//!
//! Labels are ASCII letters; `...` stands for leading axes that broadcast; a
//! label that occurs twice in one operand takes the diagonal; without `->` the
//! result has the labels that occur once, in order. Extents of 1 broadcast.
//! Operands are combined from left to right: no order of contraction is searched.

use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::{Graph, Value};
use crate::ops::ReduceKind;
use crate::shape::Shape;
use std::collections::BTreeMap;

/// What names an axis. Axes of an ellipsis are counted from the last one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Label {
    Rest(std::cmp::Reverse<usize>),
    Letter(char),
}

/// A value and the labels of its axes, each once.
#[derive(Clone)]
struct Labelled {
    value: Value,
    labels: Vec<Label>,
}

impl Labelled {
    fn axis(&self, label: Label) -> Option<usize> {
        self.labels.iter().position(|&other| other == label)
    }

    fn axes(&self, labels: &[Label]) -> Vec<usize> {
        labels.iter().filter_map(|&label| self.axis(label)).collect()
    }
}

impl Graph {
    /// Einstein summation of `operands` by `equation`, such as `"bhqd,bhkd->bhqk"`.
    ///
    /// Operands have one dtype, float or integer (complex too where nothing is summed outside a
    /// product of two operands). An equation that does not fit the operands is a builder error.
    #[track_caller]
    pub fn einsum(&mut self, equation: &str, operands: &[Value]) -> Value {
        if operands.iter().any(|&operand| self.try_ty(operand).is_none()) {
            return Value::POISON;
        }
        match self.build_einsum(equation, operands) {
            Ok(value) => value,
            Err(message) => self.reject("einsum", format!("\"{equation}\": {message}")),
        }
    }

    fn build_einsum(&mut self, equation: &str, operands: &[Value]) -> Result<Value, String> {
        let compact: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
        let (left, right) = match compact.split_once("->") {
            Some((left, right)) => (left.to_string(), Some(right.to_string())),
            None => (compact, None),
        };
        let terms: Vec<&str> = left.split(',').collect();
        if terms.len() != operands.len() {
            return Err(format!("has {} terms for {} operands", terms.len(), operands.len()));
        }
        let mut labels = vec![];
        for (term, &operand) in terms.iter().zip(operands) {
            let rank = self.ty(operand).rank();
            labels.push(parse_term(term, |letters| rank.checked_sub(letters), rank)?);
        }
        let result = match right {
            Some(right) => {
                let rest = labels.iter().flatten().filter(|label| matches!(label, Label::Rest(_)));
                let count = rest.map(|label| rest_number(*label) + 1).max().unwrap_or(0);
                parse_term(&right, |_| Some(count), usize::MAX)?
            }
            None => implicit_result(&labels),
        };
        let mut parts = vec![];
        for (&value, labels) in operands.iter().zip(labels) {
            parts.push(self.diagonal(value, labels)?);
        }
        self.squeeze_broadcast(&mut parts)?;
        check_result(&result, &parts)?;
        Ok(self.contract(parts, &result))
    }

    /// Takes the diagonal of every label that occurs more than once.
    fn diagonal(&mut self, value: Value, labels: Vec<Label>) -> Result<Labelled, String> {
        let mut part = Labelled { value, labels };
        while let Some((first, second)) = repeated(&part.labels) {
            let ty = self.ty(part.value).clone();
            let (a, b) = (ty.shape[first].clone(), ty.shape[second].clone());
            if a != b {
                return Err(format!("a repeated label has extents {a} and {b}"));
            }
            let coordinate = |g: &mut Graph, axis: usize| {
                let mut dims = vec![Dim::from(1); ty.rank()];
                dims[axis] = a.clone();
                g.iota(DType::I64, Shape::from(dims), axis)
            };
            let (row, column) = (coordinate(self, first), coordinate(self, second));
            let mask = self.compare_eq(row, column);
            let zero = self.scalar(ty.dtype, 0.0);
            let masked = self.where_(mask, part.value, zero);
            part.value = self.reduce(masked, ReduceKind::Sum, vec![second], false);
            part.labels.remove(second);
            if self.try_ty(part.value).is_none() {
                return Ok(part);
            }
        }
        Ok(part)
    }

    /// Checks that extents of one label agree, and drops axes of extent 1 whose
    /// label has another extent elsewhere: absent axes broadcast.
    fn squeeze_broadcast(&mut self, parts: &mut [Labelled]) -> Result<(), String> {
        let mut extents: BTreeMap<Label, Dim> = BTreeMap::new();
        for part in parts.iter() {
            let Some(ty) = self.try_ty(part.value) else { continue };
            for (&label, dim) in part.labels.iter().zip(ty.shape.dims()) {
                match extents.get(&label) {
                    Some(known) if known == dim || dim.is(1) => {}
                    Some(known) if !known.is(1) => {
                        return Err(format!("{label:?} has extents {known} and {dim}"));
                    }
                    _ => {
                        extents.insert(label, dim.clone());
                    }
                }
            }
        }
        for part in parts.iter_mut() {
            let Some(ty) = self.try_ty(part.value).cloned() else { continue };
            let axes = part.labels.iter().zip(ty.shape.dims());
            let (labels, dims): (Vec<_>, Vec<_>) = axes
                .filter(|(label, dim)| extents.get(label) == Some(dim))
                .map(|(&label, dim)| (label, dim.clone()))
                .unzip();
            if dims.len() < ty.rank() {
                part.value = self.reshape(part.value, Shape::from(dims));
                part.labels = labels;
            }
        }
        Ok(())
    }

    /// Combines all parts and orders the axes as in `result`.
    fn contract(&mut self, parts: Vec<Labelled>, result: &[Label]) -> Value {
        let mut rest = parts.into_iter();
        let Some(mut whole) = rest.next() else { return Value::POISON };
        while let Some(next) = rest.next() {
            let later = |label: Label| rest.as_slice().iter().any(|part| part.labels.contains(&label));
            let keep = |label: Label| result.contains(&label) || later(label);
            whole = self.combine(whole, next, &keep);
        }
        let whole = self.sum_out(whole, &|label| result.contains(&label));
        let permutation = whole.axes(result);
        if permutation.iter().copied().eq(0..whole.labels.len()) {
            return whole.value;
        }
        self.transpose(whole.value, permutation)
    }

    fn combine(&mut self, left: Labelled, right: Labelled, keep: &dyn Fn(Label) -> bool) -> Labelled {
        let left = {
            let shared = right.labels.clone();
            self.sum_out(left, &|label| keep(label) || shared.contains(&label))
        };
        let right = {
            let shared = left.labels.clone();
            self.sum_out(right, &|label| keep(label) || shared.contains(&label))
        };
        let shared = left.labels.iter().copied().filter(|label| right.labels.contains(label));
        let (batch, summed): (Vec<Label>, Vec<Label>) = shared.partition(|&label| keep(label));
        let value = self.dot_general(
            left.value,
            right.value,
            left.axes(&summed),
            right.axes(&summed),
            left.axes(&batch),
            right.axes(&batch),
        );
        let free = left.labels.iter().chain(&right.labels).copied();
        let free = free.filter(|label| !(left.labels.contains(label) && right.labels.contains(label)));
        let labels = batch.iter().copied().chain(free).collect();
        Labelled { value, labels }
    }

    /// Sums over every axis whose label is not kept.
    fn sum_out(&mut self, part: Labelled, keep: &dyn Fn(Label) -> bool) -> Labelled {
        let axes: Vec<usize> = (0..part.labels.len()).filter(|&axis| !keep(part.labels[axis])).collect();
        if axes.is_empty() {
            return part;
        }
        let value = self.reduce(part.value, ReduceKind::Sum, axes, false);
        Labelled { value, labels: part.labels.into_iter().filter(|&label| keep(label)).collect() }
    }
}

fn rest_number(label: Label) -> usize {
    match label {
        Label::Rest(number) => number.0,
        Label::Letter(_) => 0,
    }
}

/// Labels of one term. `rest` gives the number of axes of an ellipsis from the
/// number of letters; without an ellipsis there must be `rank` letters.
fn parse_term(term: &str, rest: impl Fn(usize) -> Option<usize>, rank: usize) -> Result<Vec<Label>, String> {
    let letters = term.chars().filter(|&c| c != '.').count();
    let expand = |text: &str| -> Result<Vec<Label>, String> {
        let illegal = text.chars().find(|c| !c.is_ascii_alphabetic());
        match illegal {
            Some(found) => Err(format!("found {found:?} where a letter or ... is expected")),
            None => Ok(text.chars().map(Label::Letter).collect()),
        }
    };
    let Some((before, after)) = term.split_once("...") else {
        if rank != usize::MAX && letters != rank {
            return Err(format!("the term {term:?} has {letters} labels for rank {rank}"));
        }
        return expand(term);
    };
    let count = rest(letters).ok_or_else(|| format!("the term {term:?} has more labels than rank {rank}"))?;
    let mut labels = expand(before)?;
    labels.extend((0..count).rev().map(|number| Label::Rest(std::cmp::Reverse(number))));
    labels.extend(expand(after)?);
    Ok(labels)
}

/// Ellipsis axes, then the letters that occur once, in order.
fn implicit_result(terms: &[Vec<Label>]) -> Vec<Label> {
    let mut counts: BTreeMap<Label, usize> = BTreeMap::new();
    for label in terms.iter().flatten() {
        *counts.entry(*label).or_insert(0) += 1;
    }
    let wanted = counts.into_iter().filter(|(label, count)| *count == 1 || matches!(label, Label::Rest(_)));
    wanted.map(|(label, _)| label).collect()
}

fn repeated(labels: &[Label]) -> Option<(usize, usize)> {
    (0..labels.len()).find_map(|second| {
        let first = labels[..second].iter().position(|&label| label == labels[second])?;
        Some((first, second))
    })
}

fn check_result(result: &[Label], parts: &[Labelled]) -> Result<(), String> {
    if let Some((_, second)) = repeated(result) {
        return Err(format!("{:?} occurs twice in the result", result[second]));
    }
    match result.iter().find(|label| !parts.iter().any(|part| part.labels.contains(label))) {
        Some(label) => Err(format!("{label:?} of the result is in no operand")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpret::{Tensors, evaluate};
    use crate::literal::Literal;
    use crate::ops::for_each_index;
    use crate::sample::{Generator, fill_literal};
    use crate::shape::TensorType;

    fn extent(label: char) -> usize {
        "_abcdef".find(label).expect("the label stands there")
    }

    /// The definition: a loop over every label.
    fn naive(terms: &[&str], result: &str, operands: &[Literal]) -> Vec<f64> {
        let mut labels: Vec<char> = terms.iter().flat_map(|term| term.chars()).collect();
        labels.sort_unstable();
        labels.dedup();
        let dims: Vec<usize> = labels.iter().map(|&label| extent(label)).collect();
        let position = |term: &str, index: &[usize]| {
            term.chars().fold(0, |at, label| {
                at * extent(label)
                    + index[labels.iter().position(|&other| other == label).expect("the label stands there")]
            })
        };
        let mut sums = vec![0.0; result.chars().map(extent).product()];
        for_each_index(&dims, |index| {
            let factors =
                terms.iter().zip(operands).map(|(term, literal)| literal.to_f64s()[position(term, index)]);
            sums[position(result, index)] += factors.product::<f64>();
        });
        sums
    }

    #[test]
    fn equations_agree_with_their_definition() {
        for equation in [
            "bc,cd->bd",
            "abcd,abed->abce",
            "abc,cb->a",
            "abc->cab",
            "abc->b",
            "ab,ab->ab",
            "ab,ab->",
            "b,c->cb",
            "bc,cd,de->be",
            "bc,bd,be->cde",
            "bab->ab",
            "ccc->c",
            "cc->",
            "abcb,bd->ad",
            "ab,c->a",
        ] {
            let (left, result) = equation.split_once("->").expect("the equation has an arrow");
            let terms: Vec<&str> = left.split(',').collect();
            let mut graph = Graph::new("einsum");
            let (mut inputs, mut feeds, mut literals) = (vec![], Tensors::new(), vec![]);
            let mut generator = Generator::new(5);
            for (index, term) in terms.iter().enumerate() {
                let dims: Vec<usize> = term.chars().map(extent).collect();
                let ty = TensorType::new(DType::F64, dims.as_slice());
                let literal = fill_literal(&ty, crate::op::Fill::Any, &mut generator);
                inputs.push(graph.input(format!("x{index}"), ty));
                feeds.insert(format!("x{index}"), literal.clone());
                literals.push(literal);
            }
            let y = graph.einsum(equation, &inputs);
            graph.output("y", y);
            let graph = graph.finish().expect(equation);
            let found = evaluate(&graph, &feeds).expect("the graph evaluates").outputs[0].1.to_f64s();
            let expected = naive(&terms, result, &literals);
            assert_eq!(found.len(), expected.len(), "{equation}");
            for (a, b) in found.iter().zip(&expected) {
                assert!((a - b).abs() < 1e-9, "{equation}: {a} and {b}");
            }
        }
    }

    fn result_type(equation: &str, types: &[&[&str]]) -> Result<String, String> {
        let mut graph = Graph::new("einsum");
        let mut inputs = vec![];
        for (index, dims) in types.iter().enumerate() {
            let dims = dims.iter().map(|dim| dim.parse::<i64>().map_or_else(|_| Dim::symbol(dim), Dim::from));
            let dims: Vec<Dim> = dims.collect();
            inputs.push(graph.input(format!("x{index}"), TensorType::new(DType::F32, dims)));
        }
        let y = graph.einsum(equation, &inputs);
        match graph.try_ty(y) {
            Some(ty) => Ok(ty.to_string()),
            None => Err(graph.diagnostics().iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn ellipses_symbols_and_implicit_results_are_understood() {
        let attention: &[&[&str]] = &[&["B", "8", "S", "64"], &["B", "8", "T", "64"]];
        assert_eq!(result_type("bhqd,bhkd->bhqk", attention).as_deref(), Ok("f32[B, 8, S, T]"));
        assert_eq!(result_type("...qd,...kd->...qk", attention).as_deref(), Ok("f32[B, 8, S, T]"));
        assert_eq!(
            result_type("...ij,...jk", &[&["5", "1", "2", "3"], &["4", "3", "6"]]).as_deref(),
            Ok("f32[5, 4, 2, 6]")
        );
        assert_eq!(result_type("ba", &[&["2", "3"]]).as_deref(), Ok("f32[3, 2]"));
        assert_eq!(result_type("ij , jk", &[&["2", "3"], &["3", "4"]]).as_deref(), Ok("f32[2, 4]"));
    }

    #[test]
    fn equations_that_do_not_fit_are_refused() {
        for (equation, types, expected) in [
            ("ab,bc->ac", &[&["2", "3"][..]][..], "2 terms for 1 operands"),
            ("abc->a", &[&["2", "3"]], "3 labels for rank 2"),
            ("ab->ac", &[&["2", "3"]], "in no operand"),
            ("ab->aa", &[&["2", "3"]], "occurs twice"),
            ("a1->a", &[&["2", "3"]], "where a letter"),
            ("aa->a", &[&["2", "3"]], "extents 2 and 3"),
            ("ab,ab->ab", &[&["2", "3"], &["2", "4"]], "extents 3 and 4"),
            ("...abc->a", &[&["2", "3"]], "more labels than rank 2"),
        ] {
            let message = result_type(equation, types).expect_err(equation);
            assert!(message.contains(expected), "{equation}: {message}");
        }
    }
}
