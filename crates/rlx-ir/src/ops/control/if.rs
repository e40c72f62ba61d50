//! `if`: one of two bodies.

use crate::ops::bodies::{body_accuracy, check_predicate, within};
use crate::ops::prelude::*;

op! {
    /// The results of `then` on the captures where `predicate` holds, else those of `otherwise`. Only that body is
    /// run: what the other one would fault on has no influence.
    ///
    /// (C1) `predicate` is one `bool`, of shape `[]`.
    /// (C2) Both bodies have an input of the type of each capture, in order, and no params or states.
    /// (C3) Both bodies give results of the same types.
    r#if: If(predicate; captures*) -> [results] {
        /// Runs where the predicate holds.
        then: Body,
        /// Runs where it does not.
        otherwise: Body,
    }
}

impl OpSpec for If {
    const MEANING: Meaning<Self> = Meaning::primitive(|op, operands| {
        let captures: Vec<_> = operands[1..].iter().map(|literal| (*literal).clone()).collect();
        let (name, body) = match operands[0].to_ints()[0] {
            0 => ("otherwise", &op.otherwise),
            _ => ("then", &op.then),
        };
        body.evaluate(&captures).map_err(|fault| within(name, None, fault))
    });

    const VJP: Vjp<Self> = Vjp::Bodies(Clone::clone);
    const JVP: Jvp<Self> = Jvp::Bodies;
    const BATCH: Batch<Self> = Batch::Bodies;
    const ACCURACY: AccuracyRule<Self> = |op| body_accuracy([&op.then, &op.otherwise], 1);
    const SAMPLES: Samples<Self> =
        Samples::Made(|| [DType::F32, DType::F64].into_iter().flat_map(samples_of).collect());

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        check_predicate("C1", "the predicate", operands[0])?;
        let captures: Vec<TensorType> = operands[1..].iter().map(|ty| (*ty).clone()).collect();
        self.then.check("C2", "then", &captures)?;
        self.otherwise.check("C2", "otherwise", &captures)?;
        let (then, otherwise) = (self.then.result_types("C3")?, self.otherwise.result_types("C3")?);
        require!("C3", then == otherwise, "then gives {then:?}, otherwise gives {otherwise:?}");
        Ok(then)
    }
}

fn samples_of(dtype: DType) -> [Sample<If>; 2] {
    let ty = TensorType::new(dtype, [3usize, 2]);
    let body = |name: &str, build: fn(&mut Graph, [Value; 2]) -> [Value; 2]| {
        let mut graph = Graph::new(name);
        let inputs = [graph.input("a", ty.clone()), graph.input("b", ty.clone())];
        let [y, z] = build(&mut graph, inputs);
        graph.output("y", y);
        graph.output("z", z);
        Body::from(graph)
    };
    let op = If {
        then: body("sum", |g, [a, b]| [g.add(a, b), a]),
        otherwise: body("product", |g, [a, b]| {
            let product = g.mul(a, b);
            [product, g.tanh(product)]
        }),
    };
    let sample = Sample::new(op, [TensorType::new(DType::Bool, Shape::scalar()), ty.clone(), ty.clone()]);
    [sample.clone().fill(0, 1.0, 2.0), sample.fill(0, 0.0, 1.0)]
}
