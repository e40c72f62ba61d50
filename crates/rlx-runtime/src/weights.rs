//! Binding weights by name.
//!
//! Bytes of the right dtype are shared, never copied; a float weight of another
//! float dtype is converted into memory of its own, and counted. Either every
//! param fits or none is bound.

use crate::error::RuntimeError;
use rlx_driver::{DriverError, SharedBytes, host};
use rlx_ir::lir::IoEntry;
use rlx_ir::{DType, DTypeClass, Diagnostic};
use rlx_weights::WeightTensor;
use std::sync::Arc;

/// What binding a set of weights did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BoundWeights {
    /// Bytes that stayed where they were.
    pub shared_bytes: u64,
    /// Bytes of converted copies.
    pub converted_bytes: u64,
    /// Params whose dtype was converted.
    pub converted: Vec<String>,
}

/// The bytes of every entry, found by `find`.
pub(crate) fn gather(
    source_name: &str,
    entries: &[IoEntry],
    find: &dyn Fn(&str) -> Option<WeightTensor>,
    suggest: &dyn Fn(&str) -> Option<String>,
) -> Result<(Vec<SharedBytes>, BoundWeights), RuntimeError> {
    let mut findings = vec![];
    let mut all = vec![];
    let mut bound = BoundWeights::default();
    for entry in entries {
        let subject = || format!("param \"{}\"", entry.name);
        let Some(tensor) = find(&entry.name) else {
            let finding = Diagnostic::new(subject(), format!("is missing; expected {}", entry.ty));
            findings.push(match suggest(&entry.name) {
                Some(near) => finding.hint(format!("did you mean \"{near}\"?")),
                None => finding,
            });
            continue;
        };
        let fits = entry.ty.shape.as_static().as_deref() == Some(tensor.dims());
        if fits && entry.ty.dtype == tensor.dtype() {
            bound.shared_bytes += tensor.bytes().len() as u64;
            all.push(SharedBytes::new(Arc::new(tensor.bytes().clone())));
        } else if fits && converts(tensor.dtype(), entry.ty.dtype) {
            let bytes = convert(&tensor, entry.ty.dtype)?;
            bound.converted_bytes += bytes.len() as u64;
            bound.converted.push(entry.name.clone());
            all.push(SharedBytes::from(bytes));
        } else {
            let found = format!("expected {}, found {}", entry.ty, tensor.view().ty());
            findings.push(Diagnostic::new(subject(), found));
        }
    }
    if findings.is_empty() {
        Ok((all, bound))
    } else {
        Err(RuntimeError::Weights { source_name: source_name.into(), findings })
    }
}

/// Is a weight of `from` taken where the graph says `to`?
fn converts(from: DType, to: DType) -> bool {
    let plain = |dtype: DType| dtype.class() == DTypeClass::Float && !dtype.is_storage_only();
    plain(from) && plain(to)
}

fn convert(tensor: &WeightTensor, to: DType) -> Result<Vec<u8>, DriverError> {
    let elements = tensor.dims().iter().product();
    let what = "a converted weight";
    let size = to.byte_size(elements).ok_or(DriverError::OutOfMemory { what, bytes: usize::MAX })?;
    let mut bytes = vec![];
    bytes.try_reserve_exact(size).map_err(|_| DriverError::OutOfMemory { what, bytes: size })?;
    bytes.resize(size, 0);
    host::convert(tensor.dtype(), tensor.bytes(), to, &mut bytes)?;
    Ok(bytes)
}
