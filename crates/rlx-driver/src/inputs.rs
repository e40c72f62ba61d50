//! Matching what a caller feeds with what a module expects.

use crate::error::DriverError;
use crate::host::TensorRef;
use rlx_ir::interpret::bind_shape;
use rlx_ir::lir::{IoEntry, LirModule};
use rlx_ir::{Bindings, Diagnostic};

/// Sorts named tensors into manifest order and binds symbols from their
/// extents. `fed` names inputs that something else provides; symbols they
/// bind keep their value of `bindings`.
///
/// # Errors
/// All findings at once: missing, unknown, duplicate or ill-typed inputs,
/// bytes that do not fit their type, symbols out of bounds.
pub fn match_inputs<'a>(
    module: &LirModule,
    inputs: &[(&str, TensorRef<'a>)],
    fed: &dyn Fn(&str) -> bool,
    bindings: &mut Bindings,
) -> Result<Vec<Option<TensorRef<'a>>>, DriverError> {
    let mut findings = vec![];
    let mut ordered = vec![None; module.io.inputs.len()];
    let mut fresh = Bindings::new();
    for (name, tensor) in inputs {
        let subject = format!("input \"{name}\"");
        let Some(index) = module.io.inputs.iter().position(|entry| entry.name == *name) else {
            let known: Vec<_> = module.io.inputs.iter().map(|entry| entry.name.as_str()).collect();
            let hint = match rlx_ir::nearest_name(name, known.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None if known.is_empty() => "the graph has none".into(),
                None => format!("the inputs are: {}", known.join(", ")),
            };
            findings.push(Diagnostic::new(subject, "there is no such input").hint(hint));
            continue;
        };
        if ordered[index].replace(*tensor).is_some() {
            findings.push(Diagnostic::new(subject, "is given twice"));
            continue;
        }
        if let Err(message) = bind_shape(&module.io.inputs[index].ty, tensor.dtype, tensor.dims, &mut fresh) {
            findings.push(Diagnostic::new(subject, message));
        } else if let Some(expected) = tensor.expected_size() {
            let message = format!("{} takes {expected}, found {} bytes", tensor.ty(), tensor.bytes.len());
            findings.push(Diagnostic::new(subject, message));
        }
    }
    for (entry, given) in module.io.inputs.iter().zip(&ordered) {
        if given.is_none() && !fed(&entry.name) {
            findings.push(Diagnostic::new(
                format!("input \"{}\"", entry.name),
                format!("is missing; expected {}", entry.ty),
            ));
        }
    }
    if findings.is_empty() {
        for (symbol, value) in fresh.iter() {
            bindings.set(symbol, value);
        }
        check_symbols(module, bindings, &mut findings);
        check_extents(&module.io.inputs, &ordered, bindings, &mut findings);
    }
    if findings.is_empty() { Ok(ordered) } else { Err(DriverError::Inputs(findings)) }
}

fn check_symbols(module: &LirModule, bindings: &Bindings, findings: &mut Vec<Diagnostic>) {
    for (symbol, bounds) in &module.symbols {
        match bindings.get(symbol) {
            None => findings.push(Diagnostic::new(format!("symbol {symbol}"), "is bound by no input")),
            Some(value) if value < bounds.min || bounds.max.is_some_and(|max| value > max) => findings
                .push(Diagnostic::new(format!("symbol {symbol}"), format!("is {value}, outside {bounds}"))),
            Some(_) => {}
        }
    }
}

/// Extents that are expressions, and cannot bind their symbols, must agree with what others bound.
fn check_extents(
    entries: &[IoEntry],
    ordered: &[Option<TensorRef<'_>>],
    bindings: &Bindings,
    findings: &mut Vec<Diagnostic>,
) {
    for (entry, tensor) in entries.iter().zip(ordered) {
        let Some(tensor) = tensor else { continue };
        if let Ok(dims) = entry.ty.shape.eval(bindings)
            && dims != tensor.dims
        {
            let message = format!("expected {}, found {}", entry.ty, tensor.ty());
            findings.push(Diagnostic::new(format!("input \"{}\"", entry.name), message));
        }
    }
}

/// Checks positional inputs against the byte sizes that `size` gives per input.
///
/// # Errors
/// A wrong count or size.
pub fn match_slots(
    module: &LirModule,
    inputs: &[&[u8]],
    size: impl Fn(usize) -> usize,
) -> Result<(), DriverError> {
    let entries = &module.io.inputs;
    if inputs.len() != entries.len() {
        return Err(DriverError::Mismatch {
            what: "inputs of",
            name: module.name.clone(),
            expected: format!("{} slots", entries.len()),
            found: format!("{}", inputs.len()),
        });
    }
    for (index, bytes) in inputs.iter().enumerate() {
        if bytes.len() != size(index) {
            return Err(DriverError::Mismatch {
                what: "input",
                name: entries[index].name.clone(),
                expected: format!("{} bytes", size(index)),
                found: format!("{} bytes", bytes.len()),
            });
        }
    }
    Ok(())
}
