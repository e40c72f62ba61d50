//! `custom`: a user op, called by handle.

use crate::custom::{CustomHandle, CustomOp, CustomRegistry};
use crate::ops::prelude::*;

op! {
    /// What the user op computes from its operands. A text names it with its version, `function = custom "name" 1`, and is
    /// read with the registry that holds it. Backends that run no host function refuse it when they compile.
    ///
    /// (C1) The constraints of the user op.
    custom: Custom(; operands*) -> [results] {
        /// The user op.
        function: CustomHandle,
    }
}

impl OpSpec for Custom {
    const MEANING: Meaning<Self> = Meaning::primitive(|op, operands| {
        let results = op.function.evaluate(operands)?;
        let types: Vec<TensorType> = operands.iter().map(|literal| literal.ty()).collect();
        let inferred = op.function.infer(&types.iter().collect::<Vec<_>>());
        let inferred = inferred.map_err(|violation| Fault(violation.to_string()))?;
        let found: Vec<TensorType> = results.iter().map(Literal::ty).collect();
        match found == inferred {
            true => Ok(results),
            false => Err(Fault(format!("{:?} gives {found:?}, it infers {inferred:?}", op.function))),
        }
    });

    const VJP: Vjp<Self> = Vjp::Rule(|op, graph, given| op.function.vjp(graph, given));
    const JVP: Jvp<Self> = Jvp::Rule(|op, graph, given| op.function.jvp(graph, given));
    const BATCH: Batch<Self> = Batch::Rule(|op, graph, given| op.function.batch(graph, given));
    const ACCURACY: AccuracyRule<Self> = |op| op.function.accuracy();
    const SAMPLES: Samples<Self> = Samples::Made(|| {
        let op = Custom { function: CustomHandle::new(SumAndDifference) };
        vec![Sample::new(
            op,
            [TensorType::new(DType::F32, [3usize, 2]), TensorType::new(DType::F32, [3usize, 2])],
        )]
    });

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        self.function.infer(operands)
    }
}

impl CustomRegistry {
    /// What a text of the samples is read with.
    pub fn of_samples() -> CustomRegistry {
        let mut registry = CustomRegistry::default();
        registry.register(CustomHandle::new(SumAndDifference)).expect("it is the only one");
        registry
    }
}

/// The user op of the samples: `a + b` and `a - b`, both f32 or f64, of one shape.
#[derive(Clone, Copy, Debug)]
pub struct SumAndDifference;

impl CustomOp for SumAndDifference {
    fn name(&self) -> &str {
        "sum_and_difference"
    }

    fn version(&self) -> u32 {
        1
    }

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let fits = matches!(operands, [a, b] if a == b && matches!(a.dtype, DType::F32 | DType::F64));
        require!("C1", fits, "expected two operands of one shape, f32 or f64");
        Ok(vec![operands[0].clone(), operands[1].clone()])
    }

    fn evaluate(&self, operands: &[&Literal]) -> Evaluated {
        let (a, b) = (operands[0].to_f64s(), operands[1].to_f64s());
        let of = |f: fn(f64, f64) -> f64| {
            let values: Vec<f64> = a.iter().zip(&b).map(|(&a, &b)| f(a, b)).collect();
            Literal::floats(operands[0].dtype(), operands[0].dims(), &values)
        };
        let results = [of(|a, b| a + b), of(|a, b| a - b)];
        results.into_iter().collect::<Result<_, _>>().map_err(|error| Fault(error.to_string()))
    }

    fn accuracy(&self) -> Accuracy {
        Accuracy::Rounding
    }

    fn vjp(&self, graph: &mut Graph, given: Backward<'_>) -> Derivatives {
        // The op is its own transpose.
        let cotangents: Vec<Value> = (0..2).map(|index| given.cotangent_or_zeros(graph, index)).collect();
        Ok(graph.custom(&cotangents, CustomHandle::new(SumAndDifference)).into_iter().map(Some).collect())
    }

    fn jvp(&self, graph: &mut Graph, given: Forward<'_>) -> Derivatives {
        given.linear(graph, Custom { function: CustomHandle::new(SumAndDifference) })
    }

    fn batch(&self, graph: &mut Graph, given: Batched<'_>) -> Result<Vec<Value>, &'static str> {
        let operands = given.with_batch(graph);
        Ok(graph.custom(&operands, CustomHandle::new(SumAndDifference)))
    }
}
