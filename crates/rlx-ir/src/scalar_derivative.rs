//! Derivatives of scalar programs: one table of partial derivatives for all
//! elementwise ops, activations and regions.
//!
//! A tangent runs through the program next to its value, so that a `select`
//! takes the tangent of the branch that is taken and nothing of the other, NaN
//! or not. A real program is its own transpose: the derivative by an input is
//! the tangent of the outputs where the input's tangent is the cotangent. A
//! complex one is moved along the real and the imaginary direction instead.
//!
//! At kinks: `abs` has 0 at 0; `max` and `min` share equally between equal
//! operands; roundings, `sign` and comparisons have 0; a power has 0 by its
//! base where the exponent is 0, and by its exponent where the base is 0.

use crate::dtype::DType;
use crate::scalar::{ScalarKind, ScalarOp, ScalarProgram, ScalarValue};
use std::f64::consts::FRAC_2_SQRT_PI;

/// A tangent; none is zero.
pub type Tangent = Option<ScalarValue>;

impl ScalarProgram {
    /// Appends `of` with its inputs replaced by `args`, and the tangents of its outputs, where those of its
    /// inputs are `tangents`.
    pub fn push_forward(
        &mut self,
        of: &ScalarProgram,
        args: &[ScalarValue],
        tangents: &[Tangent],
    ) -> Vec<Tangent> {
        let (mut values, mut slopes) = (args.to_vec(), tangents.to_vec());
        for instr in &of.instrs {
            let pick = |list: &[ScalarValue]| instr.args.iter().map(|&arg| list[arg as usize]).collect();
            let operands: Vec<ScalarValue> = pick(&values);
            let value = self.push(instr.kind, &operands, instr.dtype);
            let moving: Vec<Tangent> = instr.args.iter().map(|&arg| slopes[arg as usize]).collect();
            slopes.push(match instr.kind {
                ScalarKind::Op(op) if instr.dtype.is_differentiable() => {
                    self.tangent(op, value, &operands, &moving)
                }
                _ => None,
            });
            values.push(value);
        }
        of.outputs.iter().map(|&output| slopes[output as usize]).collect()
    }

    /// The program of tangents: its inputs are those of `of`, then one tangent per input that `moves`. Gives
    /// it with one output per output of `of` that changes, and which those are.
    pub fn jvp_of(of: &ScalarProgram, moves: &[bool]) -> (ScalarProgram, Vec<usize>) {
        let dtypes = of.inputs.iter().zip(moves).filter(|(_, moves)| **moves).map(|(&dtype, _)| dtype);
        let mut p = ScalarProgram::new(of.inputs.iter().copied().chain(dtypes).collect());
        let args: Vec<_> = (0..of.inputs.len()).map(|index| p.input(index)).collect();
        let mut next = of.inputs.len()..;
        let seeds: Vec<Tangent> =
            moves.iter().map(|moves| if *moves { next.next().map(|at| p.input(at)) } else { None }).collect();
        let tangents = p.push_forward(of, &args, &seeds);
        let changing = (0..tangents.len()).filter(|&output| tangents[output].is_some()).collect();
        p.outputs = tangents.into_iter().flatten().map(|value| value.0).collect();
        (p, changing)
    }

    /// The program of the derivative by input `input`: its inputs are those of `of`, then one cotangent per
    /// output that has one. None where nothing depends on the input.
    pub fn vjp_of(of: &ScalarProgram, input: usize, given: &[bool]) -> Option<ScalarProgram> {
        let complex = of.inputs[input].is_complex() || of.instrs.iter().any(|instr| instr.dtype.is_complex());
        let outputs: Vec<usize> = (0..of.outputs.len()).filter(|&output| given[output]).collect();
        let dtypes = of.output_dtypes();
        let inputs = of.inputs.iter().copied().chain(outputs.iter().map(|&output| dtypes[output]));
        let mut p = ScalarProgram::new(inputs.collect());
        let args: Vec<_> = (0..of.inputs.len()).map(|index| p.input(index)).collect();
        let dtype = of.inputs[input];
        let mut sum = None;
        for (position, &output) in outputs.iter().enumerate() {
            let cotangent = p.input(args.len() + position);
            let along = |p: &mut ScalarProgram, seed: ScalarValue| {
                let mut seeds = vec![None; args.len()];
                seeds[input] = Some(seed);
                p.push_forward(of, &args, &seeds)[output]
            };
            let tangent = if complex {
                p.by_directions(dtype, cotangent, along)
            } else {
                let seed = p.cast(cotangent, dtype);
                along(&mut p, seed).map(|value| p.cast(value, dtype))
            };
            sum = p.sum(sum, tangent);
        }
        sum.map(|ScalarValue(output)| ScalarProgram { outputs: vec![output], ..p })
    }

    /// The derivative by an input of `dtype`, of what its moving by 1 and by i does to an output with `cotangent`.
    fn by_directions(
        &mut self,
        dtype: DType,
        cotangent: ScalarValue,
        mut along: impl FnMut(&mut ScalarProgram, ScalarValue) -> Tangent,
    ) -> Tangent {
        let real = dtype.real();
        let (zero, one) = (self.constant(real, 0.0), self.constant(real, 1.0));
        if !dtype.is_complex() {
            let tangent = along(self, one)?;
            return Some(self.pairing(cotangent, tangent, real));
        }
        let parts = [(one, zero), (zero, one)].map(|(re, im)| {
            let seed = self.complex(re, im);
            let tangent = along(self, seed)?;
            Some(self.pairing(cotangent, tangent, real))
        });
        let half = self.constant(real, 0.5);
        let [re, im] = parts.map(|part| self.scaled(half, part));
        re.or(im)?;
        Some(self.complex(re.unwrap_or(zero), im.unwrap_or(zero)))
    }

    /// What a cotangent makes of a tangent: their product, or twice the real part of one conjugate times the other.
    fn pairing(&mut self, cotangent: ScalarValue, tangent: ScalarValue, dtype: DType) -> ScalarValue {
        let product = if self.dtype(tangent).is_complex() {
            let [re, im] = [ScalarOp::Real, ScalarOp::Imag].map(|part| {
                let (a, b) = (self.part(part, cotangent), self.part(part, tangent));
                self.binary(ScalarOp::Mul, a, b)
            });
            let sum = self.binary(ScalarOp::Add, re, im);
            self.binary(ScalarOp::Add, sum, sum)
        } else {
            self.binary(ScalarOp::Mul, cotangent, tangent)
        };
        self.cast(product, dtype)
    }

    fn sum(&mut self, a: Tangent, b: Tangent) -> Tangent {
        match (a, b) {
            (Some(a), Some(b)) => Some(self.binary(ScalarOp::Add, a, b)),
            (a, b) => a.or(b),
        }
    }

    fn scaled(&mut self, factor: ScalarValue, t: Tangent) -> Tangent {
        t.map(|t| self.binary(ScalarOp::Mul, t, factor))
    }

    fn negated(&mut self, t: Tangent) -> Tangent {
        t.map(|t| self.unary(ScalarOp::Neg, t))
    }

    /// `condition ? yes : no`; none where both are.
    fn chosen(&mut self, condition: ScalarValue, yes: Tangent, no: Tangent) -> Tangent {
        let zero = self.constant(self.dtype(yes.or(no)?), 0.0);
        Some(self.select(condition, yes.unwrap_or(zero), no.unwrap_or(zero)))
    }

    /// Tangent of `y = op(args)`.
    fn tangent(&mut self, op: ScalarOp, y: ScalarValue, args: &[ScalarValue], t: &[Tangent]) -> Tangent {
        use ScalarOp as S;
        if t.iter().all(Option::is_none) {
            return None;
        }
        match (op, args, t) {
            (S::Cast, ..) => t[0].map(|t| self.cast(t, self.dtype(y))),
            (S::Neg, ..) => self.negated(t[0]),
            (S::Real | S::Imag, ..) => t[0].map(|t| self.part(op, t)),
            (S::Complex, ..) => {
                let zero = self.constant(self.dtype(y).real(), 0.0);
                Some(self.complex(t[0].unwrap_or(zero), t[1].unwrap_or(zero)))
            }
            (S::Select, ..) => self.chosen(args[0], t[1], t[2]),
            (S::Add, ..) => self.sum(t[0], t[1]),
            (S::Sub, _, &[ta, Some(tb)]) => Some(match ta {
                Some(ta) => self.binary(S::Sub, ta, tb),
                None => self.unary(S::Neg, tb),
            }),
            (S::Sub, ..) => t[0],
            (_, &[a, b], &[ta, tb]) => self.binary_tangent(op, y, [a, b], [ta, tb]),
            (_, &[a], &[Some(ta)]) => self.unary_tangent(op, y, a, ta),
            _ => None,
        }
    }

    fn binary_tangent(
        &mut self,
        op: ScalarOp,
        y: ScalarValue,
        [a, b]: [ScalarValue; 2],
        [ta, tb]: [Tangent; 2],
    ) -> Tangent {
        use ScalarOp as S;
        let dtype = self.dtype(y);
        match op {
            S::Mul => {
                let (left, right) = (self.scaled(b, ta), self.scaled(a, tb));
                self.sum(left, right)
            }
            S::Div => {
                let fall = self.scaled(y, tb);
                let fall = self.negated(fall);
                let change = self.sum(ta, fall)?;
                Some(self.binary(S::Div, change, b))
            }
            S::Rem => {
                let quotient = self.binary(S::Div, a, b);
                let whole = self.unary(S::Trunc, quotient);
                let fall = self.scaled(whole, tb);
                let fall = self.negated(fall);
                self.sum(ta, fall)
            }
            S::Max | S::Min => {
                let (more, less) = if op == S::Max { (S::Gt, S::Lt) } else { (S::Lt, S::Gt) };
                let half = self.constant(dtype, 0.5);
                let both = self.sum(ta, tb);
                let shared = self.scaled(half, both);
                let (a_wins, b_wins) = (self.binary(more, a, b), self.binary(less, a, b));
                let rest = self.chosen(b_wins, tb, shared);
                self.chosen(a_wins, ta, rest)
            }
            S::Pow => {
                let (zero, one) = (self.constant(dtype, 0.0), self.constant(dtype, 1.0));
                let by_base = ta.and_then(|ta| {
                    let less = self.binary(S::Sub, b, one);
                    let power = self.binary(S::Pow, a, less);
                    let slope = self.binary(S::Mul, b, power);
                    let flat = self.binary(S::Eq, b, zero);
                    let change = self.scaled(slope, Some(ta));
                    self.chosen(flat, None, change)
                });
                let by_exponent = tb.and_then(|tb| {
                    let nothing = self.binary(S::Eq, a, zero);
                    let base = self.select(nothing, one, a);
                    let log = self.unary(S::Log, base);
                    let slope = self.binary(S::Mul, y, log);
                    self.scaled(slope, Some(tb))
                });
                self.sum(by_base, by_exponent)
            }
            S::Atan2 => {
                let (left, right) = (self.scaled(b, ta), self.scaled(a, tb));
                let right = self.negated(right);
                let turn = self.sum(left, right)?;
                let (aa, bb) = (self.binary(S::Mul, a, a), self.binary(S::Mul, b, b));
                let square = self.binary(S::Add, aa, bb);
                Some(self.binary(S::Div, turn, square))
            }
            _ => None,
        }
    }

    fn unary_tangent(&mut self, op: ScalarOp, y: ScalarValue, a: ScalarValue, t: ScalarValue) -> Tangent {
        use ScalarOp as S;
        let dtype = self.dtype(y);
        let one = self.constant(dtype, 1.0);
        // Either a divisor or a factor of the tangent.
        let divisor = match op {
            S::Sqrt => Some(self.binary(S::Add, y, y)),
            S::Log => Some(a),
            S::Log1p => Some(self.binary(S::Add, one, a)),
            S::Atan => Some(self.square_plus(one, a)),
            S::Atanh => Some(self.conjugates(one, a)),
            _ => None,
        };
        if let Some(divisor) = divisor {
            return Some(self.binary(S::Div, t, divisor));
        }
        let factor = match op {
            S::Abs => self.unary(S::Sign, a),
            S::Rsqrt => {
                let half = self.constant(dtype, -0.5);
                let slope = self.binary(S::Div, y, a);
                self.binary(S::Mul, half, slope)
            }
            S::Exp => y,
            S::Expm1 => self.binary(S::Add, y, one),
            S::Sin => self.unary(S::Cos, a),
            S::Cos => {
                let sin = self.unary(S::Sin, a);
                self.unary(S::Neg, sin)
            }
            S::Tan => self.square_plus(one, y),
            S::Asin | S::Acos => {
                let square = self.conjugates(one, a);
                let slope = self.unary(S::Rsqrt, square);
                if op == S::Asin { slope } else { self.unary(S::Neg, slope) }
            }
            S::Sinh => self.unary(S::Cosh, a),
            S::Cosh => self.unary(S::Sinh, a),
            S::Tanh => self.conjugates(one, y),
            S::Asinh => {
                let square = self.square_plus(one, a);
                self.unary(S::Rsqrt, square)
            }
            S::Acosh => {
                let (less, more) = (self.binary(S::Sub, a, one), self.binary(S::Add, a, one));
                let square = self.binary(S::Mul, less, more);
                self.unary(S::Rsqrt, square)
            }
            S::Erf => {
                let square = self.binary(S::Mul, a, a);
                let negated = self.unary(S::Neg, square);
                let bell = self.unary(S::Exp, negated);
                let scale = self.constant(dtype, FRAC_2_SQRT_PI);
                self.binary(S::Mul, scale, bell)
            }
            _ => return None,
        };
        self.scaled(factor, Some(t))
    }

    /// `one + a a`.
    fn square_plus(&mut self, one: ScalarValue, a: ScalarValue) -> ScalarValue {
        let square = self.binary(ScalarOp::Mul, a, a);
        self.binary(ScalarOp::Add, one, square)
    }

    /// `(one - a) (one + a)`.
    fn conjugates(&mut self, one: ScalarValue, a: ScalarValue) -> ScalarValue {
        let (less, more) = (self.binary(ScalarOp::Sub, one, a), self.binary(ScalarOp::Add, one, a));
        self.binary(ScalarOp::Mul, less, more)
    }
}
