//! `custom_fn`: a user's function, given as a graph.

use crate::ops::bodies::body_accuracy;
use crate::ops::prelude::*;

op! {
    /// The results of `body` on the operands; compiling puts the body in its place. A function may bring its own
    /// derivatives, which are then used instead of those of its ops.
    ///
    /// (C1) `body` has an input of the type of each operand, in order, and no params or states.
    /// (C2) `vjp` takes the operands and a gradient of the type of each result; it gives a gradient of the type of
    /// each operand that has derivatives.
    /// (C3) `jvp` takes the operands and a tangent of the type of each operand that has derivatives; it gives a tangent of
    /// the type of each result.
    custom_fn: CustomFn(; operands*) -> [results] {
        /// The function.
        body: Body,
        /// Its gradient, backwards.
        vjp: Option<Body>,
        /// Its derivative, forwards.
        jvp: Option<Body>,
    }
}

impl OpSpec for CustomFn {
    const MEANING: Meaning<Self> = Meaning::composite(|op, graph, operands| op.inline(graph, operands));

    const VJP: Vjp<Self> = Vjp::Rule(|op, graph, given| {
        let Some(vjp) = &op.vjp else { return Err("it brings no derivative of its own") };
        let mut operands = given.operands.to_vec();
        operands.extend((0..given.results.len()).map(|index| given.cotangent_or_zeros(graph, index)));
        let gradients = vjp.inline(graph, &operands).map_err(|_| "its vjp does not fit its operands")?;
        let mut gradients = gradients.into_iter();
        let is_float = |graph: &Graph, operand: Value| graph.ty(operand).dtype.is_differentiable();
        let gradient = |&operand: &Value| if is_float(graph, operand) { gradients.next() } else { None };
        Ok(given.operands.iter().map(gradient).collect())
    });
    const JVP: Jvp<Self> = Jvp::Rule(|op, graph, given| {
        let Some(jvp) = &op.jvp else { return Err("it brings no derivative of its own") };
        let mut operands = given.operands.to_vec();
        for (&operand, &tangent) in given.operands.iter().zip(given.tangents) {
            if graph.ty(operand).dtype.is_differentiable() {
                operands.push(tangent.unwrap_or_else(|| graph.zeros_like(operand)));
            }
        }
        let tangents = jvp.inline(graph, &operands).map_err(|_| "its jvp does not fit its operands")?;
        Ok(tangents.into_iter().map(Some).collect())
    });
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |op| body_accuracy([&op.body], 1);
    const SAMPLES: Samples<Self> =
        Samples::Made(|| [DType::F32, DType::F64].into_iter().flat_map(samples_of).collect());

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let operands: Vec<TensorType> = operands.iter().map(|ty| (*ty).clone()).collect();
        self.body.check("C1", "body", &operands)?;
        let results = self.body.result_types("C1")?;
        let floats: Vec<TensorType> =
            operands.iter().filter(|ty| ty.dtype.is_differentiable()).cloned().collect();
        if let Some(vjp) = &self.vjp {
            vjp.check_function("C2", "vjp", &[&operands, &results], &floats)?;
        }
        if let Some(jvp) = &self.jvp {
            jvp.check_function("C3", "jvp", &[&operands, &floats], &results)?;
        }
        Ok(results)
    }
}

fn samples_of(dtype: DType) -> [Sample<CustomFn>; 2] {
    let ty = TensorType::new(dtype, [3usize, 2]);
    let mut body = Graph::new("square");
    let x = body.input("x", ty.clone());
    let y = body.mul(x, x);
    body.output("y", y);
    let derivative = |name: &str, given: &str| {
        let mut graph = Graph::new(name);
        let (x, d) = (graph.input("x", ty.clone()), graph.input(given, ty.clone()));
        let double = graph.add(x, x);
        let y = graph.mul(double, d);
        graph.output("d", y);
        Body::from(graph)
    };
    let (vjp, jvp) = (Some(derivative("square vjp", "dy")), Some(derivative("square jvp", "dx")));
    let mut two = Graph::new("two");
    let (a, b) = (two.input("a", ty.clone()), two.input("b", ty.clone()));
    let (sum, soft) = (two.add(a, b), two.tanh(b));
    two.output("sum", sum);
    two.output("soft", soft);
    two.output("a", a);
    [
        Sample::new(CustomFn { body: body.into(), vjp, jvp }, [ty.clone()]),
        Sample::new(CustomFn { body: two.into(), vjp: None, jvp: None }, [ty.clone(), ty]),
    ]
}

impl CustomFn {
    fn inline(&self, graph: &mut Graph, operands: &[Value]) -> Vec<Value> {
        match self.body.inline(graph, operands) {
            Ok(results) => results,
            Err(finding) => vec![graph.reject("custom_fn", finding.to_string())],
        }
    }
}
