//! User ops: what the op `custom` calls.
//!
//! A user op is a value that implements [`CustomOp`]. Graphs hold it by handle, so verifying, compiling and running
//! need nothing else; a text names it, so the parser takes a [`CustomRegistry`] in which it looks names up. There is
//! no registry for the whole process. Two user ops are the same when name and version are.

use crate::accuracy::Accuracy;
use crate::derive::{Backward, Batched, Derivatives, Forward};
use crate::graph::{Graph, Value};
use crate::literal::Literal;
use crate::op::{Evaluated, Fault, Inferred};
use crate::shape::TensorType;
use crate::tensor_ref::TensorRef;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// What a user op says about itself: a function of its operands, without memory of its own.
pub trait CustomOp: Send + Sync {
    /// Name in texts.
    fn name(&self) -> &str;
    /// Changes whenever the meaning does: compiled graphs are kept under name and version.
    fn version(&self) -> u32;
    /// Result types from operand types.
    ///
    /// # Errors
    /// The violated constraint.
    fn infer(&self, operands: &[&TensorType]) -> Inferred;
    /// The results.
    ///
    /// # Errors
    /// The fault that the values cause.
    fn evaluate(&self, operands: &[&Literal]) -> Evaluated;
    /// How far other implementations may be from the evaluation.
    fn accuracy(&self) -> Accuracy;
    /// Derivatives by the operands, or why there are none.
    ///
    /// # Errors
    /// Why there are none.
    fn vjp(&self, graph: &mut Graph, given: Backward<'_>) -> Derivatives;
    /// Derivatives of the results.
    ///
    /// # Errors
    /// Why there are none.
    fn jvp(&self, graph: &mut Graph, given: Forward<'_>) -> Derivatives;
    /// The results, each with the batch in front.
    ///
    /// # Errors
    /// Why it takes no batch.
    fn batch(&self, graph: &mut Graph, given: Batched<'_>) -> Result<Vec<Value>, &'static str>;
    /// Computes on the CPU, from operands aligned to their elements, into dense results of the inferred types. Unless given, it evaluates and copies.
    ///
    /// # Errors
    /// The fault that the values cause.
    fn run(&self, operands: &[TensorRef<'_>], results: &mut [&mut [u8]]) -> Result<(), Fault> {
        let read = |tensor: &TensorRef<'_>| Literal::from_bytes(tensor.dtype, tensor.dims, tensor.bytes);
        let literals: Result<Vec<_>, _> = operands.iter().map(read).collect();
        let literals = literals.map_err(|error| Fault(error.to_string()))?;
        let found = self.evaluate(&literals.iter().collect::<Vec<_>>())?;
        for (result, literal) in results.iter_mut().zip(&found) {
            let (expected, given) = (result.len(), literal.bytes().len());
            if expected != given {
                return Err(Fault(format!("a result has {given} bytes, inference gives {expected}")));
            }
            result.copy_from_slice(literal.bytes());
        }
        Ok(())
    }
}

/// A shared user op.
#[derive(Clone)]
pub struct CustomHandle(Arc<dyn CustomOp>);

impl CustomHandle {
    /// Shares `op`.
    pub fn new(op: impl CustomOp + 'static) -> CustomHandle {
        CustomHandle(Arc::new(op))
    }

    fn key(&self) -> (&str, u32) {
        (self.0.name(), self.0.version())
    }
}

impl Deref for CustomHandle {
    type Target = dyn CustomOp;
    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for CustomHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "custom {:?} {}", self.0.name(), self.0.version())
    }
}

impl PartialEq for CustomHandle {
    fn eq(&self, other: &CustomHandle) -> bool {
        self.key() == other.key()
    }
}
impl Eq for CustomHandle {}
impl Hash for CustomHandle {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// User ops by name.
#[derive(Clone, Debug, Default)]
pub struct CustomRegistry(BTreeMap<String, CustomHandle>);

impl CustomRegistry {
    /// A registry without ops.
    pub const fn empty() -> CustomRegistry {
        CustomRegistry(BTreeMap::new())
    }

    /// Adds `op`.
    ///
    /// # Errors
    /// The name is taken by an op of another version.
    pub fn register(&mut self, op: CustomHandle) -> Result<(), Fault> {
        match self.0.get(op.name()) {
            Some(known) if *known != op => {
                Err(Fault(format!("{known:?} is registered already; {op:?} needs another name")))
            }
            _ => {
                self.0.insert(op.name().into(), op);
                Ok(())
            }
        }
    }

    /// The op called `name`.
    pub fn get(&self, name: &str) -> Option<&CustomHandle> {
        self.0.get(name)
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
