//! Bodies: branches, loops and scans. What a body captures it sees by its name around it.

use super::table::Rule;
use super::writer::{Field, Term, Use, Writer, Written};
use rlx_ir::{DType, Literal, Op, OpKind, Shape, TensorType};

pub(super) const RULES: &[(OpKind, Rule)] =
    &[(OpKind::If, branch), (OpKind::While, repeat), (OpKind::Scan, scan)];

fn names(terms: &[Term]) -> Vec<String> {
    terms.iter().map(|term| term.name.clone()).collect()
}

/// Terms of new names with the types of `terms`.
fn fresh(writer: &mut Writer<'_>, stem: &str, terms: &[Term]) -> Vec<Term> {
    terms.iter().map(|term| Term { name: writer.unique(stem), ty: term.ty.clone() }).collect()
}

fn scalar(writer: &mut Writer<'_>, stem: &str, dtype: DType) -> Term {
    Term { name: writer.unique(stem), ty: TensorType::new(dtype, Shape::scalar()) }
}

fn branch(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::If(op) = place.op else { return Err(String::new()) };
    let captures = names(&place.operands[1..]);
    let then = writer.subgraph("then", &[], |writer| writer.inline(&op.then, &captures))?;
    let otherwise = writer.subgraph("otherwise", &[], |writer| writer.inline(&op.otherwise, &captures))?;
    let fields =
        [("then_branch", Field::Graph(Box::new(then))), ("else_branch", Field::Graph(Box::new(otherwise)))];
    Ok(writer.nodes("If", &[place.operand(0)], &fields, place.results.len()))
}

/// The condition is computed before the loop, and at the end of every iteration. There is no bound to fault on.
fn repeat(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::While(op) = place.op else { return Err(String::new()) };
    if op.carries == 0 {
        return Err("a loop that carries nothing".into());
    }
    let (carries, captures) = place.operands.split_at(op.carries);
    let begins = writer.inline(&op.condition, &names(&place.operands))?;
    let mut inputs = vec![scalar(writer, "iteration", DType::I64), scalar(writer, "goes_on", DType::Bool)];
    let inner = fresh(writer, "carry", carries);
    inputs.extend(inner.iter().cloned());
    let body = writer.subgraph("body", &inputs, |writer| {
        let next = writer.inline(&op.body, &[names(&inner), names(captures)].concat())?;
        let mut results = writer.inline(&op.condition, &[names(&next), names(captures)].concat())?;
        results.extend(next);
        Ok(results)
    })?;
    let mut operands = vec!["", begins[0].name.as_str()];
    operands.extend(carries.iter().map(|term| term.name.as_str()));
    Ok(writer.nodes("Loop", &operands, &[("body", Field::Graph(Box::new(body)))], place.results.len()))
}

fn scan(writer: &mut Writer<'_>, place: &Use<'_>) -> Written {
    let Op::Scan(op) = place.op else { return Err(String::new()) };
    let (rest, stacked) = place.operands.split_at(place.operands.len() - op.stacked);
    let (carries, broadcast) = rest.split_at(op.carries);
    if stacked.is_empty() {
        return counted(writer, place, (carries, broadcast));
    }
    let inner = fresh(writer, "carry", carries);
    let rows =
        |term: &Term| TensorType::new(term.ty.dtype, Shape::new(term.ty.shape.dims()[1..].iter().cloned()));
    let elements: Vec<Term> =
        stacked.iter().map(|term| Term { name: writer.unique("element"), ty: rows(term) }).collect();
    let inputs = [inner.as_slice(), &elements].concat();
    let body = writer.subgraph("body", &inputs, |writer| {
        writer.inline(&op.body, &[names(&inner), names(broadcast), names(&elements)].concat())
    })?;
    let mut fields =
        vec![("num_scan_inputs", Field::Int(op.stacked as i64)), ("body", Field::Graph(Box::new(body)))];
    if op.reverse {
        fields.push(("scan_input_directions", Field::Ints(vec![1; op.stacked])));
        if place.results.len() > op.carries {
            fields.push(("scan_output_directions", Field::Ints(vec![1; place.results.len() - op.carries])));
        }
    }
    let operands: Vec<&str> = carries.iter().chain(stacked).map(|term| term.name.as_str()).collect();
    Ok(writer.nodes("Scan", &operands, &fields, place.results.len()))
}

/// A scan over nothing but a count, which is a loop.
fn counted(writer: &mut Writer<'_>, place: &Use<'_>, (carries, broadcast): (&[Term], &[Term])) -> Written {
    let Op::Scan(op) = place.op else { return Err(String::new()) };
    if op.reverse && place.results.len() > op.carries {
        return Err("a loop stacks its results from the first to the last".into());
    }
    let length = writer.extent_number(&op.length)?;
    let goes_on = scalar(writer, "goes_on", DType::Bool);
    let mut inputs = vec![scalar(writer, "iteration", DType::I64), goes_on.clone()];
    let inner = fresh(writer, "carry", carries);
    inputs.extend(inner.iter().cloned());
    let body = writer.subgraph("body", &inputs, |writer| {
        let mut results = vec![goes_on];
        results.extend(writer.inline(&op.body, &[names(&inner), names(broadcast)].concat())?);
        Ok(results)
    })?;
    let truth = Literal::ints(DType::Bool, &[], &[1]).map_err(|error| error.to_string())?;
    let truth = writer.constant(&truth)?;
    let mut operands = vec![length.as_str(), &truth];
    operands.extend(carries.iter().map(|term| term.name.as_str()));
    Ok(writer.nodes("Loop", &operands, &[("body", Field::Graph(Box::new(body)))], place.results.len()))
}
