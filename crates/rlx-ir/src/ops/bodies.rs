//! Constraints and small computations that ops with bodies share, and a builder of scans.

use crate::ops::prelude::*;

/// Most iterations that the reference evaluates, so that no graph of a few bytes runs for ever.
pub const MOST_ITERATIONS: i64 = 1 << 20;

/// One `bool` of shape `[]`.
pub fn check_predicate(label: &'static str, what: &str, ty: &TensorType) -> Result<(), Violation> {
    let fits = ty.dtype == DType::Bool && ty.rank() == 0;
    require!(label, fits, "{what} must be bool[], found {ty}");
    Ok(())
}

/// The types of the carries, and the operands after them.
pub fn split_carries<'a, 'b>(
    label: &'static str,
    carries: usize,
    operands: &'a [&'b TensorType],
) -> Result<(Vec<TensorType>, &'a [&'b TensorType]), Violation> {
    let found = operands.len();
    require!(label, carries <= found, "expected at least {carries} operands, the carries, found {found}");
    let (first, rest) = operands.split_at(carries);
    Ok((first.iter().map(|ty| (*ty).clone()).collect(), rest))
}

/// The accuracy of results that pass through the ops of `bodies` up to `times` times.
pub fn body_accuracy<'a>(bodies: impl IntoIterator<Item = &'a Body>, times: usize) -> Accuracy {
    let nodes = bodies.into_iter().flat_map(|body| body.nodes());
    let rounding =
        nodes.filter(|node| node.op.leaf_name().is_none() && node.op.accuracy() != Accuracy::Exact);
    match rounding.count() {
        0 => Accuracy::Exact,
        count => Accuracy::Accumulated { terms: count.saturating_mul(times.min(1 << 20)).max(4) },
    }
}

/// A fault of a body, with the name of the body and the number of the iteration.
pub fn within(body: &str, iteration: Option<i64>, fault: Fault) -> Fault {
    match iteration {
        Some(iteration) => Fault(format!("{body}, iteration {iteration}: {}", fault.0)),
        None => Fault(format!("{body}: {}", fault.0)),
    }
}

impl Op {
    /// How often a body runs at most, where an attribute says so.
    pub fn loop_extent(&self) -> Option<&Dim> {
        match self {
            Op::Scan(op) => Some(&op.length),
            Op::While(op) => op.max_iterations.as_ref(),
            _ => None,
        }
    }

    /// Number of carries of a loop.
    pub fn loop_carries(&self) -> Option<usize> {
        match self {
            Op::Scan(op) => Some(op.carries),
            Op::While(op) => Some(op.carries),
            _ => None,
        }
    }
}

impl Body {
    /// Checks inputs, in groups, and results.
    ///
    /// # Errors
    /// What differs, under `label`.
    pub fn check_function(
        &self,
        label: &'static str,
        what: &str,
        inputs: &[&[TensorType]],
        results: &[TensorType],
    ) -> Result<(), Violation> {
        self.check(label, what, &inputs.concat())?;
        let found = self.result_types(label)?;
        require!(label, found == results, "{what} gives {found:?}, expected {results:?}");
        Ok(())
    }
}

impl Graph {
    /// A [`Scan`] of `length` steps over carries, broadcast operands and stacked operands. `step` builds one step from
    /// the carries, the broadcast operands and a row of each stacked one, in order; it gives the next carries and a row
    /// of each stacked result.
    #[track_caller]
    pub fn scan_over(
        &mut self,
        length: impl Into<Dim>,
        reverse: bool,
        [carries, fixed, stacked]: [&[Value]; 3],
        step: impl FnOnce(&mut Graph, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let operands = [carries, fixed, stacked].concat();
        let mut body = Graph::new("step");
        let mut inputs = vec![];
        for (index, &operand) in operands.iter().enumerate() {
            let without = usize::from(index >= carries.len() + fixed.len());
            let ty = self.try_ty(operand);
            let ty = ty
                .map(|ty| TensorType::new(ty.dtype, ty.shape.dims().get(without..).unwrap_or(&[]).to_vec()));
            inputs.push(ty.map_or(Value::POISON, |ty| body.input(format!("x{index}"), ty)));
        }
        let results = step(&mut body, &inputs);
        let poison = vec![Value::POISON; results.len()];
        if let Some(finding) = body.diagnostics().first() {
            self.reject("scan", finding.to_string());
            return poison;
        }
        body.set_outputs(results.into_iter().enumerate().map(|(index, value)| (format!("y{index}"), value)));
        let (carries, stacked) = (carries.len(), stacked.len());
        let (length, checkpoint, body) = (length.into(), Checkpoint::Every, body.into());
        let values = self.push_all(Scan { length, carries, stacked, reverse, checkpoint, body }, &operands);
        if values.is_empty() { poison } else { values }
    }
}
