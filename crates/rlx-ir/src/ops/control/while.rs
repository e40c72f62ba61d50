//! `while`: a body as long as a condition holds.

use crate::ops::bodies::{MOST_ITERATIONS, body_accuracy, check_predicate, split_carries, within};
use crate::ops::prelude::*;

op! {
    /// While `condition` of the carries and captures holds, `body` of them gives the next carries. The results are
    /// the carries for which it holds no longer.
    ///
    /// (C1) There are at least `carries` operands; the first ones are the carries, the others are captures.
    /// (C2) `condition` has an input of the type of each operand, in order, and gives one `bool` of shape `[]`.
    /// (C3) `body` has an input of the type of each operand and gives the types of the carries.
    /// (C4) `max_iterations` is not negative.
    /// A condition that still holds after `max_iterations` iterations is a run-time fault.
    r#while: While(; operands*) -> [results] {
        /// Number of carries.
        carries: usize,
        /// Most iterations.
        max_iterations: Option<Dim>,
        /// Says whether there is another iteration.
        condition: Body,
        /// One iteration.
        body: Body,
    }
}

impl OpSpec for While {
    const MEANING: Meaning<Self> = Meaning::primitive(|op, operands| {
        let mut values: Vec<Literal> = operands.iter().map(|literal| (*literal).clone()).collect();
        let limit = op.max_iterations.as_ref().and_then(Dim::as_static);
        for iteration in 0.. {
            let holds = op.condition.evaluate(&values);
            let holds = holds.map_err(|fault| within("condition", Some(iteration), fault))?;
            if holds[0].to_ints()[0] == 0 {
                break;
            }
            if limit == Some(iteration) {
                return Err(over_limit(iteration));
            }
            if iteration == MOST_ITERATIONS {
                return Err(Fault(format!(
                    "is not evaluated: it goes on after {MOST_ITERATIONS} iterations"
                )));
            }
            let next = op.body.evaluate(&values);
            let next = next.map_err(|fault| within("body", Some(iteration), fault))?;
            values.splice(..op.carries, next);
        }
        values.truncate(op.carries);
        Ok(values)
    });

    const VJP: Vjp<Self> = Vjp::Bodies(Clone::clone);
    const JVP: Jvp<Self> = Jvp::Bodies;
    const BATCH: Batch<Self> = Batch::Bodies;
    const ACCURACY: AccuracyRule<Self> = |op| {
        let most = op.max_iterations.as_ref().and_then(Dim::as_static);
        body_accuracy([&op.condition, &op.body], most.map_or(64, |most| most.max(1) as usize))
    };
    const SAMPLES: Samples<Self> =
        Samples::Made(|| [DType::F32, DType::F64].into_iter().flat_map(samples_of).collect());

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (carries, _) = split_carries("C1", self.carries, operands)?;
        let operands: Vec<TensorType> = operands.iter().map(|ty| (*ty).clone()).collect();
        self.condition.check("C2", "condition", &operands)?;
        match &self.condition.result_types("C2")?[..] {
            [ty] => check_predicate("C2", "the result of condition", ty)?,
            types => require!("C2", false, "condition gives {} results, expected one", types.len()),
        }
        self.body.check_function("C3", "body", &[&operands], &carries)?;
        if let Some(limit) = &self.max_iterations {
            check_not_negative("C4", "max_iterations", limit)?;
        }
        Ok(carries)
    }
}

/// Adds `step`, whose square makes it a curve, until the count reaches 4.
fn samples_of(dtype: DType) -> [Sample<While>; 3] {
    let (count, ty) = (TensorType::new(dtype, Shape::scalar()), TensorType::new(dtype, [3usize, 2]));
    let inputs =
        |g: &mut Graph| [g.input("i", count.clone()), g.input("x", ty.clone()), g.input("step", ty.clone())];
    let mut condition = Graph::new("i < 4");
    let [i, ..] = inputs(&mut condition);
    let four = condition.scalar(dtype, 4.0);
    let less = condition.compare(i, four, CompareKind::Lt);
    condition.output("go", less);
    let mut body = Graph::new("add");
    let [i, x, step] = inputs(&mut body);
    let one = body.scalar(dtype, 1.0);
    let (next, square) = (body.add(i, one), body.mul(step, step));
    let sum = body.add(x, square);
    body.output("i", next);
    body.output("x", sum);
    let (condition, body) = (Body::from(condition), Body::from(body));
    let sample = |limit: i64, first| {
        let max_iterations = Some(Dim::from(limit));
        let op = While { carries: 2, max_iterations, condition: condition.clone(), body: body.clone() };
        Sample::new(op, [count.clone(), ty.clone(), ty.clone()]).fill(0, first, first + 1.0)
    };
    [sample(4, 0.0), sample(9, 2.0), sample(0, 4.0)]
}

/// The fault of a loop whose condition still holds after its `max_iterations`.
pub fn over_limit(limit: i64) -> Fault {
    Fault(format!("the condition still holds after {limit} iterations, which is max_iterations"))
}
