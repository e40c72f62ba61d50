//! Matching what a caller feeds with what a module expects.

use crate::error::DriverError;
use crate::host::expected_size;
use rlx_ir::interpret::{bind_shape, check_extents};
use rlx_ir::lir::LirModule;
use rlx_ir::{Bindings, Diagnostic, TensorRef};

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
        } else if let Some(expected) = expected_size(tensor) {
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
        let given = module.io.inputs.iter().zip(&ordered);
        let given = given.filter_map(|(entry, tensor)| {
            let dims = tensor.as_ref()?.dims;
            Some((format!("input \"{}\"", entry.name), &entry.ty, dims))
        });
        check_extents(&module.symbols, given, bindings, &mut findings);
    }
    if findings.is_empty() { Ok(ordered) } else { Err(DriverError::Inputs(findings)) }
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
