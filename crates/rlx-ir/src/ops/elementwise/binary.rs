//! `binary`: the elementwise functions of two operands.

use crate::ops::prelude::*;

attr_enum! {
    /// Which function a [`Binary`] applies.
    BinaryKind {
        /// a + b.
        Add = "add",
        /// a - b.
        Sub = "sub",
        /// a b.
        Mul = "mul",
        /// a / b; integers truncate, and division by zero gives zero.
        Div = "div",
        /// Remainder with the sign of the dividend.
        Rem = "rem",
        /// Remainder with the sign of the divisor.
        Mod = "mod",
        /// Larger; NaN wins.
        Max = "max",
        /// Smaller; NaN wins.
        Min = "min",
        /// a to the power b.
        Pow = "pow",
        /// Angle of the point (b, a).
        Atan2 = "atan2",
        /// Bitwise and.
        BitAnd = "bit_and",
        /// Bitwise or.
        BitOr = "bit_or",
        /// Bitwise exclusive or.
        BitXor = "bit_xor",
        /// Shift left; by the width or more gives 0.
        Shl = "shl",
        /// Shift right, arithmetic on signed types.
        Shr = "shr",
        /// Logical and.
        And = "and",
        /// Logical or.
        Or = "or",
        /// Logical exclusive or.
        Xor = "xor",
    }
}

op! {
    /// `y = kind(a, b)`, elementwise over the NumPy broadcast of `a` and `b`.
    ///
    /// (C1) Both operands have one dtype.
    /// (C2) `bit_*`, `shl`, `shr` take integers; `and`, `or`, `xor` take `bool`; `atan2` takes
    /// floats; `rem`, `mod`, `pow`, `max`, `min` take integers and floats; the rest complex too.
    /// (C3) The shapes broadcast.
    /// Integer arithmetic wraps; integer division and remainder by zero give zero.
    binary: Binary(a, b) -> y {
        /// The function.
        kind: BinaryKind,
    }
}

impl OpSpec for Binary {
    const MEANING: Meaning<Self> = Meaning::scalar(Self::expand);
    const VJP: Vjp<Self> = Vjp::Scalar;
    const JVP: Jvp<Self> = Jvp::Scalar;
    const BATCH: Batch<Self> = Batch::elementwise();
    const ACCURACY: AccuracyRule<Self> = |op| match op.kind {
        BinaryKind::Pow | BinaryKind::Atan2 | BinaryKind::Mod => Accuracy::Approx { ulp: 8.0 },
        BinaryKind::Add | BinaryKind::Sub | BinaryKind::Mul | BinaryKind::Div => Accuracy::Rounding,
        _ => Accuracy::Exact,
    };
    const SAMPLES: Samples<Self> = Samples::Made(|| {
        use BinaryKind as K;
        let mut samples = vec![];
        let f32s = |dims: &[usize]| TensorType::new(DType::F32, dims);
        for &kind in K::ALL {
            let op = Binary { kind };
            let dtype = match kind {
                K::BitAnd | K::BitOr | K::BitXor | K::Shl | K::Shr => DType::I32,
                K::And | K::Or | K::Xor => DType::Bool,
                _ => DType::F32,
            };
            let ty = |dims: &[usize]| TensorType::new(dtype, dims);
            let sample = Sample::new(op.clone(), [ty(&[2, 3]), ty(&[2, 3])]);
            samples.push(match kind {
                K::Pow => sample.fill(0, 0.2, 3.0),
                K::Div | K::Rem | K::Mod => sample.fill(1, 0.5, 3.0),
                K::Shl | K::Shr => sample.fill(1, 0.0, 40.0),
                _ => sample,
            });
            samples.push(Sample::new(op, [ty(&[4, 1, 3]), ty(&[2, 1])]).fill(0, 1.0, 3.0).fill(1, 1.0, 3.0));
        }
        samples.push(Sample::new(Binary { kind: K::Add }, [f32s(&[0, 3]), f32s(&[])]));
        for dtype in [DType::I64, DType::U8, DType::I8, DType::U64, DType::I16] {
            for kind in [K::Add, K::Mul, K::Div, K::Rem, K::Mod, K::Max, K::Pow, K::Shr] {
                samples.push(Sample::new(
                    Binary { kind },
                    [TensorType::new(dtype, [3, 3]), TensorType::new(dtype, [3])],
                ));
            }
        }
        samples.push(Sample::new(
            Binary { kind: K::Mul },
            [TensorType::new(DType::C64, [3]), TensorType::new(DType::C64, [3])],
        ));
        samples
    });

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        use BinaryKind as K;
        same_dtype("C1", operands)?;
        let dtype = operands[0].dtype;
        let (float, int) = (dtype.is_float(), dtype.is_int());
        let legal = match self.kind {
            K::BitAnd | K::BitOr | K::BitXor | K::Shl | K::Shr => int,
            K::And | K::Or | K::Xor => dtype == DType::Bool,
            K::Atan2 => float,
            K::Rem | K::Mod | K::Pow => float || int,
            K::Max | K::Min => float || int || dtype == DType::Bool,
            K::Add | K::Sub | K::Mul | K::Div => float || int || dtype.is_complex(),
        };
        require!("C2", legal && !dtype.is_storage_only(), "{} does not take {dtype}", self.kind);
        Ok(vec![TensorType::new(dtype, broadcast_shapes("C3", operands)?)])
    }
}

impl Binary {
    fn expand(&self, p: &mut ScalarProgram, args: &[ScalarValue]) -> Vec<ScalarValue> {
        use BinaryKind as K;
        use ScalarOp as S;
        let (a, b) = (args[0], args[1]);
        let op = match self.kind {
            K::Add => S::Add,
            K::Sub => S::Sub,
            K::Mul => S::Mul,
            K::Div => S::Div,
            K::Rem => S::Rem,
            K::Max => S::Max,
            K::Min => S::Min,
            K::Pow => S::Pow,
            K::Atan2 => S::Atan2,
            K::BitAnd | K::And => S::And,
            K::BitOr | K::Or => S::Or,
            K::BitXor | K::Xor => S::Xor,
            K::Shl => S::Shl,
            K::Shr => S::Shr,
            K::Mod => return vec![modulo(p, a, b)],
        };
        vec![p.binary(op, a, b)]
    }
}

/// The remainder, moved by one divisor where its sign differs from the divisor's.
fn modulo(p: &mut ScalarProgram, a: ScalarValue, b: ScalarValue) -> ScalarValue {
    let zero = p.constant(p.dtype(a), 0.0);
    let rem = p.binary(ScalarOp::Rem, a, b);
    let nonzero = p.binary(ScalarOp::Ne, rem, zero);
    let rem_negative = p.binary(ScalarOp::Lt, rem, zero);
    let divisor_negative = p.binary(ScalarOp::Lt, b, zero);
    let differ = p.binary(ScalarOp::Xor, rem_negative, divisor_negative);
    let moves = p.binary(ScalarOp::And, nonzero, differ);
    let moved = p.binary(ScalarOp::Add, rem, b);
    p.select(moves, moved, rem)
}
