//! `scan`: a body once per step, over carries, with a slice of some operands and results for each.

use crate::ops::bodies::{MOST_ITERATIONS, body_accuracy, split_carries, within};
use crate::ops::prelude::*;

attr_enum! {
    /// What the derivative of a loop keeps of its forward sweep; the rest is computed again.
    Checkpoint {
        /// The carries before every step.
        Every = "every",
        /// The carries before every `k`-th step, with `k` the largest divisor of `length` up to its root: less
        /// memory, two more forward sweeps. As `every` where the length is symbolic or has no such divisor.
        Root = "root",
    }
}

op! {
    /// For `i` in `0 .. length`: `body` of the carries, the broadcast operands and the elements `i` of the stacked
    /// operands gives the next carries and the elements `i` of the stacked results. The results are the last carries,
    /// which are the first ones where `length` is 0, then the stacked results.
    ///
    /// Operands are `carries` carries, then the broadcast operands, then `stacked` stacked operands.
    ///
    /// (C1) There are at least `carries + stacked` operands.
    /// (C2) `length` is not negative; stacked operands have it as their first extent and no storage-only dtype.
    /// (C3) `body` has an input of the type of each operand, in order, stacked ones without their first extent, and no
    /// params or states.
    /// (C4) The first results of `body` have the types of the carries, the others no storage-only dtype.
    scan: Scan(; operands*) -> [results] {
        /// Number of steps.
        length: Dim,
        /// Number of carries.
        carries: usize,
        /// Number of stacked operands.
        stacked: usize,
        /// From the last element to the first?
        reverse: bool,
        /// What the derivative keeps.
        checkpoint: Checkpoint,
        /// One step.
        body: Body,
    }
}

impl OpSpec for Scan {
    const MEANING: Meaning<Self> = Meaning::primitive(Self::eval);

    const VJP: Vjp<Self> = Vjp::Bodies(Self::saving);
    const JVP: Jvp<Self> = Jvp::Bodies;
    const BATCH: Batch<Self> = Batch::Bodies;
    const ACCURACY: AccuracyRule<Self> =
        |op| body_accuracy([&op.body], op.length.as_static().map_or(64, |length| length.max(1) as usize));
    const SAMPLES: Samples<Self> =
        Samples::Made(|| [DType::F32, DType::F64].into_iter().flat_map(samples_of).collect());

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (carries, rest) = split_carries("C1", self.carries, operands)?;
        let fixed = rest.len().checked_sub(self.stacked);
        let found = operands.len();
        require!(
            "C1",
            fixed.is_some(),
            "expected {} carries and {} stacked operands, found {found} operands",
            self.carries,
            self.stacked
        );
        check_not_negative("C2", "length", &self.length)?;
        let (broadcast, stacked) = rest.split_at(fixed.unwrap_or(0));
        check_addressable("C2", stacked)?;
        let mut inputs = carries.clone();
        inputs.extend(broadcast.iter().map(|ty| (*ty).clone()));
        for ty in stacked {
            let Some((first, dims)) =
                ty.shape.dims().split_first().filter(|(first, _)| **first == self.length)
            else {
                require!(
                    "C2",
                    false,
                    "the first extent of a stacked operand is length = {}, found {ty}",
                    self.length
                );
                continue;
            };
            debug_assert_eq!(*first, self.length);
            inputs.push(TensorType::new(ty.dtype, dims.to_vec()));
        }
        self.body.check("C3", "body", &inputs)?;
        let mut results = self.body.result_types("C4")?;
        let fits = results.get(..self.carries) == Some(&carries[..]);
        require!("C4", fits, "body gives {results:?}, expected the carries {carries:?} first");
        check_addressable("C4", &results[self.carries..].iter().collect::<Vec<_>>())?;
        for ty in &mut results[self.carries..] {
            let dims = [self.length.clone()].into_iter().chain(ty.shape.dims().iter().cloned());
            ty.shape = Shape::from(dims.collect::<Vec<_>>());
        }
        Ok(results)
    }
}

fn samples_of(dtype: DType) -> Vec<Sample<Scan>> {
    // Sums of x * w * (sum before), and the count of steps.
    let (ty, count) = (TensorType::new(dtype, [2usize]), TensorType::new(DType::I32, Shape::scalar()));
    let mut graph = Graph::new("step");
    let (sum, number) = (graph.input("sum", ty.clone()), graph.input("count", count.clone()));
    let (w, x) = (graph.input("w", ty.clone()), graph.input("x", ty.clone()));
    let product = graph.mul(x, w);
    let product = graph.mul(product, sum);
    let (next, one) = (graph.add(sum, product), graph.scalar(DType::I32, 1.0));
    let more = graph.add(number, one);
    for (name, value) in [("sum", next), ("count", more), ("y", product), ("before", number)] {
        graph.output(name, value);
    }
    let body = Body::from(graph);
    let sample = |length: usize, reverse, checkpoint| {
        let body = body.clone();
        let op = Scan { length: length.into(), carries: 2, stacked: 1, reverse, checkpoint, body };
        let rows = TensorType::new(dtype, [length, 2]);
        Sample::new(op, [ty.clone(), count.clone(), ty.clone(), rows]).fill(0, -0.5, 0.5).fill(3, -0.5, 0.5)
    };
    // Without stacked operands or results.
    let mut graph = Graph::new("square");
    let row = TensorType::new(dtype, [3usize, 2]);
    let x = graph.input("x", row.clone());
    let y = graph.mul(x, x);
    graph.output("x", y);
    let (checkpoint, body) = (Checkpoint::Root, Body::from(graph));
    let square = Scan { length: 4.into(), carries: 1, stacked: 0, reverse: false, checkpoint, body };
    vec![
        sample(5, false, Checkpoint::Every),
        sample(4, true, Checkpoint::Every),
        sample(6, true, Checkpoint::Root),
        sample(1, false, Checkpoint::Every),
        sample(0, false, Checkpoint::Every),
        Sample::new(square, [row]).fill(0, -1.0, 1.0),
    ]
}

impl Scan {
    /// The scan with the carries before every step as further stacked results, after all others; the scan itself where
    /// its derivative keeps less than that.
    pub fn saving(&self) -> Scan {
        if self.checkpoint == Checkpoint::Root || self.saves() {
            return self.clone();
        }
        let mut body = Graph::clone(&self.body);
        for (index, carry) in self.body.inputs().into_iter().take(self.carries).enumerate() {
            let mut name = format!("saved{index}");
            while body.outputs().iter().any(|output| output.name == name) {
                name.push('_');
            }
            body.output(name, carry);
        }
        Scan { body: body.into(), ..self.clone() }
    }

    /// Are the last stacked results the carries before every step?
    pub fn saves(&self) -> bool {
        let outputs = &self.body.outputs()[self.carries..];
        let last = outputs.len().checked_sub(self.carries).map(|first| &outputs[first..]);
        let inputs = self.body.inputs();
        last.is_some_and(|last| {
            last.iter().map(|output| output.value).eq(inputs[..self.carries].iter().copied())
        })
    }

    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let length = self.length.as_static().and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|&length| length as i64 <= MOST_ITERATIONS).ok_or_else(|| {
            Fault(format!("is not evaluated: {} steps, at most {MOST_ITERATIONS} are", self.length))
        })?;
        let (fixed, stacked) = operands.split_at(operands.len() - self.stacked);
        let mut values: Vec<Literal> = fixed.iter().map(|literal| (*literal).clone()).collect();
        let mut rows: Vec<Vec<Literal>> = vec![vec![]; self.body.outputs().len() - self.carries];
        for step in 0..length {
            let position = if self.reverse { length - 1 - step } else { step };
            for literal in stacked {
                values.push(row(literal, position)?);
            }
            let mut next =
                self.body.evaluate(&values).map_err(|fault| within("body", Some(step as i64), fault))?;
            for (rows, row) in rows.iter_mut().zip(next.split_off(self.carries)) {
                rows.push(row);
            }
            values.truncate(fixed.len());
            values.splice(..self.carries, next);
        }
        values.truncate(self.carries);
        let types = self.infer(
            &operands.iter().map(|literal| literal.ty()).collect::<Vec<_>>().iter().collect::<Vec<_>>(),
        );
        let types = types.map_err(|violation| Fault(violation.to_string()))?;
        for (mut rows, ty) in rows.into_iter().zip(&types[self.carries..]) {
            if self.reverse {
                rows.reverse();
            }
            let dims = ty.shape.as_static().ok_or_else(|| Fault(format!("{ty} is not bound")))?;
            let bytes: Vec<u8> = rows.iter().flat_map(|row| row.bytes()).copied().collect();
            let stack = Literal::from_bytes(ty.dtype, &dims, &bytes);
            values.push(stack?);
        }
        Ok(values)
    }
}

/// Element `position` along the first axis; the dtype has whole bytes.
fn row(literal: &Literal, position: usize) -> Result<Literal, Fault> {
    let dims = &literal.dims()[1..];
    let size = literal.bytes().len() / literal.dims()[0].max(1);
    Ok(Literal::from_bytes(literal.dtype(), dims, &literal.bytes()[position * size..][..size])?)
}
