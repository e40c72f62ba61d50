//! Feeds: outputs that become the content of inputs and states between runs.
//!
//! Invariant: every executable keeps one [`Feeds`] and behaves alike: only a run with feeds reads the kept contents
//! and replaces them; any other run neither sees nor changes them. What a caller gives goes before what is kept.
//! Contents of states are the executable's; here are only those of inputs.

use crate::error::DriverError;
use crate::executable::Outputs;
use crate::host::check_bytes;
use rlx_ir::interpret::bind_shape;
use rlx_ir::lir::{IoEntry, LirIoManifest};
use rlx_ir::{Bindings, Literal, TensorRef, TensorType};
use std::collections::BTreeMap;

/// Which outputs are fed where, and what the fed inputs hold.
#[derive(Clone, Debug, Default)]
pub struct Feeds {
    /// Output, by the input or state that it feeds.
    sources: BTreeMap<String, String>,
    contents: BTreeMap<String, Literal>,
}

impl Feeds {
    /// Feeds output `output` to input or state `name`, instead of what fed it before.
    ///
    /// # Errors
    /// Unknown names, or types that never agree; extents that symbols decide are checked at each run.
    pub fn set(&mut self, io: &LirIoManifest, name: &str, output: &str) -> Result<(), DriverError> {
        let source = find(&io.outputs, output).ok_or_else(|| no_such("output", output, &[&io.outputs]))?;
        let target = find(&io.inputs, name).or_else(|| find(&io.states, name));
        let target = target.ok_or_else(|| no_such("input or state", name, &[&io.inputs, &io.states]))?;
        if !may_agree(&source.ty, &target.ty) {
            return Err(mismatch("feed of", target, &source.ty));
        }
        self.sources.insert(name.into(), output.into());
        Ok(())
    }

    /// Sets what input `name` holds; `false` where there is no such input.
    ///
    /// # Errors
    /// A tensor that does not fit the input.
    pub fn bind(
        &mut self,
        io: &LirIoManifest,
        name: &str,
        tensor: TensorRef<'_>,
    ) -> Result<bool, DriverError> {
        let Some(entry) = find(&io.inputs, name) else { return Ok(false) };
        let refused = || mismatch("input", entry, &tensor.ty());
        bind_shape(&entry.ty, tensor.dtype, tensor.dims, &mut Bindings::new()).map_err(|_| refused())?;
        check_bytes(tensor, "input", name)?;
        let literal = Literal::from_bytes(tensor.dtype, tensor.dims, tensor.bytes).map_err(|_| refused())?;
        self.contents.insert(name.into(), literal);
        Ok(true)
    }

    /// Is `name` fed, or does an input of this name hold something?
    pub fn has(&self, name: &str) -> bool {
        self.sources.contains_key(name) || self.contents.contains_key(name)
    }

    /// What input `name` holds.
    pub fn get(&self, name: &str) -> Option<&Literal> {
        self.contents.get(name)
    }

    /// The inputs of a run with feeds: those given, and the kept ones that are not.
    pub fn complete<'a>(&'a self, given: &[(&'a str, TensorRef<'a>)]) -> Vec<(&'a str, TensorRef<'a>)> {
        let kept = self.contents.iter().filter(|(kept, _)| !given.iter().any(|(name, _)| name == *kept));
        let kept = kept.map(|(name, literal)| (name.as_str(), TensorRef::from(literal)));
        given.iter().copied().chain(kept).collect()
    }

    /// What a run with feeds leaves for inputs and states, by their names.
    pub fn results(&self, outputs: &Outputs) -> Vec<(String, Literal)> {
        let result = |(name, source): (&String, &String)| {
            let (_, literal) = outputs.iter().find(|(output, _)| output == source)?;
            Some((name.clone(), literal.clone()))
        };
        self.sources.iter().filter_map(result).collect()
    }
}

/// One dtype, one rank, and no two static extents that differ.
fn may_agree(a: &TensorType, b: &TensorType) -> bool {
    let dims = || a.shape.dims().iter().zip(b.shape.dims());
    let differ = dims().any(|(a, b)| matches!((a.as_static(), b.as_static()), (Some(a), Some(b)) if a != b));
    a.dtype == b.dtype && a.rank() == b.rank() && !differ
}

fn find<'a>(entries: &'a [IoEntry], name: &str) -> Option<&'a IoEntry> {
    entries.iter().find(|entry| entry.name == name)
}

fn no_such(what: &'static str, name: &str, lists: &[&[IoEntry]]) -> DriverError {
    let known = lists.iter().flat_map(|entries| entries.iter()).map(|entry| entry.name.clone()).collect();
    DriverError::NoSuchName { what, name: name.into(), known }
}

fn mismatch(what: &'static str, entry: &IoEntry, found: &TensorType) -> DriverError {
    let (expected, found) = (entry.ty.to_string(), found.to_string());
    DriverError::Mismatch { what, name: entry.name.clone(), expected, found }
}
