//! `elementwise_region`: a straight-line program over elements, as one op.

use crate::ops::prelude::*;
use crate::scalar::ScalarKind;

op! {
    /// Runs `program` at every coordinate of `shape`, on the operands broadcast to it; one result per
    /// output of the program. Fusion makes such ops; they may be written by hand.
    ///
    /// (C1) The program is well formed, has an output, and computes in dtypes that are not storage-only.
    /// (C2) Its inputs have the dtypes of the operands, one each.
    /// (C3) Every operand broadcasts to exactly `shape`, whose extents are not negative.
    /// (C4) Its `index` instructions name axes of `shape`.
    elementwise_region: ElementwiseRegion(; inputs*) -> [results] {
        /// What happens to one element.
        program: Arc<ScalarProgram>,
        /// The domain.
        shape: Shape,
    }
}

impl OpSpec for ElementwiseRegion {
    const MEANING: Meaning<Self> = Meaning::scalar(|op, p, args| p.inline(&op.program, args));
    const VJP: Vjp<Self> = Vjp::Scalar;
    const JVP: Jvp<Self> = Jvp::Scalar;
    const BATCH: Batch<Self> = Batch::Broadcast(Self::batched);
    const ACCURACY: AccuracyRule<Self> =
        |op| match op.program.instrs.iter().filter(|instr| !is_exact(instr.kind, instr.dtype)).count() {
            0 => Accuracy::Exact,
            terms => Accuracy::Accumulated { terms: terms.saturating_mul(8) },
        };

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let program = &*self.program;
        let problem = program.check().err();
        require!("C1", problem.is_none(), "the program is not well formed: {}", problem.unwrap_or_default());
        require!("C1", !program.outputs.is_empty(), "the program has no output");
        let packed = program.instrs.iter().map(|instr| instr.dtype).find(|dtype| dtype.is_storage_only());
        require!("C1", packed.is_none(), "the program computes in {}", packed.unwrap_or(DType::Bool));
        check_addressable("C1", operands)?;
        let dtypes: Vec<DType> = operands.iter().map(|ty| ty.dtype).collect();
        require!(
            "C2",
            dtypes == program.inputs,
            "the program takes {:?}, the operands are {dtypes:?}",
            program.inputs
        );
        for operand in operands {
            let fits = operand.shape.broadcast(&self.shape).as_ref() == Some(&self.shape);
            require!("C3", fits, "{operand} does not broadcast to {}", self.shape);
        }
        for dim in self.shape.dims() {
            check_not_negative("C3", "extent", dim)?;
        }
        for instr in &program.instrs {
            if let ScalarKind::Index(axis) = instr.kind {
                let inside = usize::try_from(axis).is_ok_and(|axis| axis < self.shape.rank());
                require!("C4", inside, "index {axis} is out of range for rank {}", self.shape.rank());
            }
        }
        Ok(program
            .output_dtypes()
            .into_iter()
            .map(|dtype| TensorType::new(dtype, self.shape.clone()))
            .collect())
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |program: ScalarProgram, dims: &[usize], operands: &[&[usize]]| {
            let types: Vec<_> = operands
                .iter()
                .zip(&program.inputs)
                .map(|(&dims, &dtype)| TensorType::new(dtype, dims))
                .collect();
            Sample::new(ElementwiseRegion { program: Arc::new(program), shape: Shape::from(dims) }, types)
        };
        vec![
            sample(scaled_tanh(DType::F32), &[2, 3], &[&[2, 3], &[3]]),
            sample(scaled_tanh(DType::BF16), &[2, 3], &[&[2, 1], &[3]]),
            sample(scaled_tanh(DType::F32), &[0, 3], &[&[3], &[1, 1]]),
            sample(scaled_tanh(DType::F64), &[], &[&[], &[]]),
            sample(below_diagonal(), &[3, 4], &[&[4]]),
            sample(ScalarProgram::identity(DType::I64), &[2, 2], &[&[2, 1]]),
        ]
    }
}

/// Can a kernel be asked for the same bits? Integer arithmetic and whatever picks or compares.
fn is_exact(kind: ScalarKind, dtype: DType) -> bool {
    use ScalarOp as S;
    let ScalarKind::Op(op) = kind else { return true };
    let picks = matches!(op, S::Neg | S::Abs | S::Sign | S::Max | S::Min | S::Select | S::Cast | S::Bitcast)
        || matches!(op, S::Floor | S::Ceil | S::Trunc | S::Round | S::Not)
        || matches!(op, S::Real | S::Imag | S::Complex);
    picks || op.is_compare() || !(dtype.is_float() || dtype.is_complex())
}

/// `tanh(a b)` and `a < b`.
fn scaled_tanh(dtype: DType) -> ScalarProgram {
    let mut p = ScalarProgram::new(vec![dtype, dtype]);
    let (a, b) = (p.input(0), p.input(1));
    let product = p.binary(ScalarOp::Mul, a, b);
    let y = p.unary(ScalarOp::Tanh, product);
    let less = p.binary(CompareKind::Lt.scalar(), a, b);
    p.outputs = vec![y.0, less.0];
    p
}

/// The input where the column is at most the row, else 0.
fn below_diagonal() -> ScalarProgram {
    let mut p = ScalarProgram::new(vec![DType::F32]);
    let (row, column) = (p.index(0), p.index(1));
    let keep = p.binary(ScalarOp::Le, column, row);
    let zero = p.constant(DType::F32, 0.0);
    let ScalarValue(y) = p.select(keep, p.input(0), zero);
    p.outputs = vec![y];
    p
}

impl ElementwiseRegion {
    /// The region with one more axis in front, over which its program does not count.
    fn batched(&self, size: &Dim) -> ElementwiseRegion {
        let mut program = (*self.program).clone();
        for instr in &mut program.instrs {
            if let ScalarKind::Index(axis) = &mut instr.kind {
                *axis += 1;
            }
        }
        ElementwiseRegion { program: Arc::new(program), shape: self.shape.with_front(size) }
    }
}
