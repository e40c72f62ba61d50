//! Elementwise ops without a name in ONNX: their scalar programs, primitive by primitive.
//!
//! What ONNX leaves open is written out: division of integers by zero, casts of floats to integers beyond their range,
//! shifts of signed integers. Programs of several steps on floats of 16 bits and less compute in f32, as RLX may.

use super::writer::{Field, Use, Writer, Written, element_type};
use rlx_ir::{DType, DTypeClass, Literal, ScalarKind, ScalarOp, ScalarProgram, Shape};

/// Which dtypes an ONNX op takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Integers, and floats of 16 bits and more.
    Numbers,
    /// Integers of 32 bits and more, and floats of 16 bits and more.
    Words,
    /// Floats of 16 bits and more.
    Floats,
    /// The same without bf16.
    IeeeFloats,
}

impl Takes {
    /// The dtype in which an op that takes these computes `dtype`; `None` where no dtype serves.
    pub fn computed(self, dtype: DType) -> Option<DType> {
        match dtype.class() {
            DTypeClass::Float if dtype.block_bits() < 16 => Some(DType::F32),
            DTypeClass::Float if self == Takes::IeeeFloats && dtype == DType::BF16 => Some(DType::F32),
            DTypeClass::Float => Some(dtype),
            DTypeClass::Signed | DTypeClass::Unsigned => match self {
                Takes::Numbers => Some(dtype),
                // What is cut off later wraps the same.
                Takes::Words if dtype.block_bits() < 32 => Some(DType::I32),
                Takes::Words => Some(dtype),
                Takes::Floats | Takes::IeeeFloats => None,
            },
            DTypeClass::Bool | DTypeClass::Complex | DTypeClass::Block => None,
        }
    }
}

/// A value of a program.
#[derive(Clone)]
struct Scalar {
    name: String,
    dtype: DType,
    shape: Shape,
}

/// A program that is being written.
struct Place<'w, 'g> {
    writer: &'w mut Writer<'g>,
    shape: Shape,
    widen: bool,
}

/// Writes `program` on the operands of `place`.
pub(super) fn write(writer: &mut Writer<'_>, place: &Use<'_>, program: &ScalarProgram) -> Written {
    let steps = program.instrs.iter().map(|instr| match instr.kind {
        // These are written as several nodes.
        ScalarKind::Op(ScalarOp::Rsqrt | ScalarOp::Expm1 | ScalarOp::Log1p | ScalarOp::Atan2) => 2,
        ScalarKind::Op(_) => 1,
        _ => 0,
    });
    let shape = place.results[0].shape.clone();
    let mut scope = Place { writer, shape: shape.clone(), widen: steps.sum::<usize>() > 1 };
    let mut values: Vec<Scalar> = vec![];
    for term in &place.operands {
        let given = Scalar { name: term.name.clone(), dtype: term.ty.dtype, shape: term.ty.shape.clone() };
        values.push(scope.widened(given)?);
    }
    for instr in &program.instrs {
        let args: Vec<Scalar> = instr.args.iter().map(|&arg| values[arg as usize].clone()).collect();
        let from =
            instr.args.first().map_or(instr.dtype, |&arg| program.dtype(rlx_ir::scalar::ScalarValue(arg)));
        values.push(match instr.kind {
            ScalarKind::Op(op) => scope.instr(op, &args, from, instr.dtype)?,
            ScalarKind::Float(bits) => scope.number(instr.dtype, f64::from_bits(bits))?,
            ScalarKind::Int(value) => scope.integer(instr.dtype, value.into())?,
            ScalarKind::Index(axis) => scope.index(axis as usize)?,
        });
    }
    let mut names = vec![];
    for (&output, ty) in program.outputs.iter().zip(place.results) {
        let value = scope.cast(&values[output as usize], ty.dtype)?;
        names.push(match value.shape == ty.shape {
            true => value.name,
            false => {
                let to = scope.writer.dims(ty.shape.dims())?;
                scope.writer.node("Expand", &[&value.name, &to], &[])
            }
        });
    }
    Ok(names)
}

impl Place<'_, '_> {
    /// The dtype in which a value of `dtype` is held.
    fn held(&self, dtype: DType) -> DType {
        let is_small = dtype.is_float() && dtype.block_bits() <= 16;
        if is_small && (self.widen || dtype.block_bits() < 16) { DType::F32 } else { dtype }
    }

    fn widened(&mut self, value: Scalar) -> Result<Scalar, String> {
        let to = self.held(value.dtype);
        self.cast(&value, to)
    }

    /// ONNX's `Cast`, for what it says all of.
    fn cast(&mut self, value: &Scalar, to: DType) -> Result<Scalar, String> {
        if value.dtype == to {
            return Ok(value.clone());
        }
        let name = self.writer.cast(&value.name, value.dtype, to)?;
        Ok(Scalar { name, dtype: to, shape: value.shape.clone() })
    }

    fn number(&mut self, dtype: DType, value: f64) -> Result<Scalar, String> {
        let dtype = self.held(dtype);
        let literal = Literal::floats(dtype, &[], &[value]).map_err(|error| error.to_string())?;
        Ok(Scalar { name: self.writer.constant(&literal)?, dtype, shape: Shape::scalar() })
    }

    fn integer(&mut self, dtype: DType, value: i128) -> Result<Scalar, String> {
        if dtype.is_float() {
            return self.number(dtype, value as f64);
        }
        let literal = Literal::ints(dtype, &[], &[value]).map_err(|error| error.to_string())?;
        Ok(Scalar { name: self.writer.constant(&literal)?, dtype, shape: Shape::scalar() })
    }

    /// The coordinate along `axis`.
    fn index(&mut self, axis: usize) -> Result<Scalar, String> {
        let extent = self.shape.dims()[axis].clone();
        let dims = std::iter::once(extent.clone()).chain((axis + 1..self.shape.rank()).map(|_| 1.into()));
        let shape = Shape::new(dims);
        let end = self.writer.extent_number(&extent)?;
        let (zero, one) = (self.integer(DType::I64, 0)?, self.integer(DType::I64, 1)?);
        let mut name = self.writer.node("Range", &[&zero.name, &end, &one.name], &[]);
        if shape.rank() > 1 {
            let axes: Vec<i64> = (1..shape.rank() as i64).collect();
            let axes = self.writer.ints(&axes);
            name = self.writer.node("Unsqueeze", &[&name, &axes], &[]);
        }
        Ok(Scalar { name, dtype: DType::I64, shape })
    }

    /// A node on operands of one dtype with a result of `dtype`.
    fn plain(&mut self, op: &str, args: &[&Scalar], dtype: DType) -> Scalar {
        let names: Vec<&str> = args.iter().map(|arg| arg.name.as_str()).collect();
        let name = self.writer.node(op, &names, &[]);
        let joined = args.iter().try_fold(Shape::scalar(), |shape, arg| shape.broadcast(&arg.shape));
        Scalar { name, dtype, shape: joined.unwrap_or_else(|| self.shape.clone()) }
    }

    /// The same, in a dtype that the op takes.
    fn taken(&mut self, op: &str, takes: Takes, args: &[Scalar]) -> Result<Scalar, String> {
        let dtype = args[0].dtype;
        let computed = takes.computed(dtype).ok_or_else(|| format!("ONNX has no {op} of {dtype}"))?;
        let args = args.iter().map(|arg| self.cast(arg, computed)).collect::<Result<Vec<_>, _>>()?;
        let result = self.plain(op, &args.iter().collect::<Vec<_>>(), computed);
        self.cast(&result, dtype)
    }

    fn binary(&mut self, op: &str, a: &Scalar, b: &Scalar) -> Result<Scalar, String> {
        self.taken(op, Takes::Numbers, &[a.clone(), b.clone()])
    }

    fn compare(&mut self, op: &str, a: &Scalar, b: &Scalar) -> Scalar {
        self.plain(op, &[a, b], DType::Bool)
    }

    fn choose(&mut self, condition: &Scalar, yes: &Scalar, no: &Scalar) -> Scalar {
        self.plain("Where", &[condition, yes, no], yes.dtype)
    }

    fn instr(&mut self, op: ScalarOp, args: &[Scalar], from: DType, to: DType) -> Result<Scalar, String> {
        if from.is_complex() || to.is_complex() {
            let complex = if from.is_complex() { from } else { to };
            return Err(format!("ONNX has no {} of {complex}", op.name()));
        }
        if from == DType::Bool && op != ScalarOp::Cast {
            return self.truth(op, args);
        }
        if let Some((name, takes)) = direct(op) {
            if from.is_int() && matches!(name, "Floor" | "Ceil" | "Round") {
                return Ok(args[0].clone());
            }
            return self.taken(name, takes, args);
        }
        match op {
            ScalarOp::Cast => self.convert(&args[0], from, to),
            ScalarOp::Bitcast => self.bitcast(&args[0], from, to),
            op if op.is_compare() => Ok(self.comparison(op, args)),
            _ if from.is_int() => self.integral(op, args),
            _ => self.floating(op, args),
        }
    }

    fn comparison(&mut self, op: ScalarOp, args: &[Scalar]) -> Scalar {
        let name = match op {
            ScalarOp::Lt => "Less",
            ScalarOp::Le => "LessOrEqual",
            ScalarOp::Gt => "Greater",
            ScalarOp::Ge => "GreaterOrEqual",
            _ => "Equal",
        };
        let result = self.compare(name, &args[0], &args[1]);
        if op == ScalarOp::Ne { self.plain("Not", &[&result], DType::Bool) } else { result }
    }

    /// Primitives on truth values.
    fn truth(&mut self, op: ScalarOp, args: &[Scalar]) -> Result<Scalar, String> {
        let name = match op {
            ScalarOp::And | ScalarOp::Min | ScalarOp::Mul => "And",
            ScalarOp::Or | ScalarOp::Max => "Or",
            ScalarOp::Xor => "Xor",
            ScalarOp::Not => "Not",
            ScalarOp::Select => return Ok(self.choose(&args[0], &args[1], &args[2])),
            ScalarOp::Eq | ScalarOp::Ne => return Ok(self.comparison(op, args)),
            op if op.is_compare() => {
                let args =
                    args.iter().map(|arg| self.cast(arg, DType::I32)).collect::<Result<Vec<_>, _>>()?;
                return Ok(self.comparison(op, &args));
            }
            _ => return Err(format!("ONNX has no {} of bool", op.name())),
        };
        Ok(self.plain(name, &args.iter().collect::<Vec<_>>(), DType::Bool))
    }

    fn convert(&mut self, x: &Scalar, from: DType, to: DType) -> Result<Scalar, String> {
        // A value that is held wide is rounded first.
        let x = self.cast(x, from)?;
        let Some((low, high)) = to.int_range().filter(|_| from.is_float() && to.is_int()) else {
            let cast = self.cast(&x, to)?;
            return self.widened(cast);
        };
        let x = if from.block_bits() < 32 { self.cast(&x, DType::F32)? } else { x };
        let cast = self.cast(&x, to)?;
        let (most, least) = (self.number(x.dtype, high as f64)?, self.number(x.dtype, low as f64)?);
        let (above, below) =
            (self.compare("GreaterOrEqual", &x, &most), self.compare("LessOrEqual", &x, &least));
        let (high, low, zero) = (self.integer(to, high)?, self.integer(to, low)?, self.integer(to, 0)?);
        let capped = self.choose(&above, &high, &cast);
        let capped = self.choose(&below, &low, &capped);
        let is_nan = self.plain("IsNaN", &[&x], DType::Bool);
        Ok(self.choose(&is_nan, &zero, &capped))
    }

    fn bitcast(&mut self, x: &Scalar, from: DType, to: DType) -> Result<Scalar, String> {
        let x = self.cast(x, from)?;
        if self.writer.opset < 26 && from.is_int() && to.is_int() {
            let cast = self.cast(&x, to)?;
            return self.widened(cast);
        }
        if self.writer.opset < 26 {
            return Err(format!("BitCast came with opset 26, this is opset {}", self.writer.opset));
        }
        let code = element_type(to, self.writer.opset)? as i64;
        let name = self.writer.node("BitCast", &[&x.name], &[("to", Field::Int(code))]);
        self.widened(Scalar { name, dtype: to, shape: x.shape })
    }

    /// Is every element of this constant a divisor for which division is defined?
    fn divides(&self, x: &Scalar) -> bool {
        let numbers = self.writer.literal(&x.name).map(Literal::to_ints);
        numbers.is_some_and(|numbers| numbers.iter().all(|&number| number != 0 && number != -1))
    }

    fn integral(&mut self, op: ScalarOp, args: &[Scalar]) -> Result<Scalar, String> {
        let (a, dtype) = (&args[0], args[0].dtype);
        match op {
            ScalarOp::Neg if dtype.is_signed_int() => Ok(self.plain("Neg", &[a], dtype)),
            ScalarOp::Neg => {
                let zero = self.integer(dtype, 0)?;
                self.binary("Sub", &zero, a)
            }
            ScalarOp::Trunc => Ok(a.clone()),
            ScalarOp::Not => Ok(self.plain("BitwiseNot", &[a], dtype)),
            ScalarOp::And => Ok(self.plain("BitwiseAnd", &[a, &args[1]], dtype)),
            ScalarOp::Or => Ok(self.plain("BitwiseOr", &[a, &args[1]], dtype)),
            ScalarOp::Xor => Ok(self.plain("BitwiseXor", &[a, &args[1]], dtype)),
            ScalarOp::Div | ScalarOp::Rem => self.quotient(op, a, &args[1]),
            ScalarOp::Shl | ScalarOp::Shr => self.shift(op, a, &args[1]),
            _ => Err(format!("ONNX says nothing exact about {} of integers", op.name())),
        }
    }

    /// Integers by zero give zero; the quotient that does not fit wraps.
    fn quotient(&mut self, op: ScalarOp, a: &Scalar, b: &Scalar) -> Result<Scalar, String> {
        let dtype = a.dtype;
        let apply = |scope: &mut Self, b: &Scalar| {
            let fields: &[_] = if op == ScalarOp::Rem { &[("fmod", Field::Int(1))] } else { &[] };
            let name = if op == ScalarOp::Rem { "Mod" } else { "Div" };
            let name = scope.writer.node(name, &[&a.name, &b.name], fields);
            let shape = a.shape.broadcast(&b.shape).unwrap_or_else(|| scope.shape.clone());
            Scalar { name, dtype, shape }
        };
        if self.divides(b) {
            return Ok(apply(self, b));
        }
        let (zero, one) = (self.integer(dtype, 0)?, self.integer(dtype, 1)?);
        let is_zero = self.compare("Equal", b, &zero);
        let mut divisor = self.choose(&is_zero, &one, b);
        if !dtype.is_signed_int() {
            let quotient = apply(self, &divisor);
            return Ok(self.choose(&is_zero, &zero, &quotient));
        }
        let minus_one = self.integer(dtype, -1)?;
        let is_minus_one = self.compare("Equal", b, &minus_one);
        divisor = self.choose(&is_minus_one, &one, &divisor);
        let quotient = apply(self, &divisor);
        let negated = if op == ScalarOp::Rem { zero.clone() } else { self.binary("Sub", &zero, a)? };
        let quotient = self.choose(&is_minus_one, &negated, &quotient);
        Ok(self.choose(&is_zero, &zero, &quotient))
    }

    /// ONNX shifts unsigned integers, by less than their width.
    fn shift(&mut self, op: ScalarOp, a: &Scalar, b: &Scalar) -> Result<Scalar, String> {
        let (dtype, bits) = (a.dtype, a.dtype.block_bits());
        let unsigned = match bits {
            8 => DType::U8,
            16 => DType::U16,
            32 => DType::U32,
            _ => DType::U64,
        };
        let (zero, width) = (self.integer(dtype, 0)?, self.integer(dtype, bits as i128)?);
        let is_less = self.compare("Less", b, &width);
        let is_positive = self.compare("GreaterOrEqual", b, &zero);
        let fits = self.plain("And", &[&is_less, &is_positive], DType::Bool);
        let count = self.choose(&fits, b, &zero);
        let (is_negative, flipped) = match op == ScalarOp::Shr && dtype.is_signed_int() {
            true => {
                let is_negative = self.compare("Less", a, &zero);
                let inverse = self.plain("BitwiseNot", &[a], dtype);
                let flipped = self.choose(&is_negative, &inverse, a);
                (Some(is_negative), flipped)
            }
            false => (None, a.clone()),
        };
        let (bits_of, count) = (self.cast(&flipped, unsigned)?, self.cast(&count, unsigned)?);
        let direction = if op == ScalarOp::Shl { "LEFT" } else { "RIGHT" };
        let fields = [("direction", Field::Text(direction))];
        let name = self.writer.node("BitShift", &[&bits_of.name, &count.name], &fields);
        let shape = a.shape.broadcast(&b.shape).unwrap_or_else(|| self.shape.clone());
        let shifted = self.cast(&Scalar { name, dtype: unsigned, shape }, dtype)?;
        let shifted = self.choose(&fits, &shifted, &zero);
        let Some(is_negative) = is_negative else { return Ok(shifted) };
        let inverse = self.plain("BitwiseNot", &[&shifted], dtype);
        Ok(self.choose(&is_negative, &inverse, &shifted))
    }

    fn floating(&mut self, op: ScalarOp, args: &[Scalar]) -> Result<Scalar, String> {
        let (a, dtype) = (args[0].clone(), args[0].dtype);
        let one = self.number(dtype, 1.0)?;
        match op {
            ScalarOp::Neg => Ok(self.plain("Neg", &[&a], dtype)),
            ScalarOp::Div => self.binary("Div", &a, &args[1]),
            ScalarOp::Pow => self.taken("Pow", Takes::Words, args),
            ScalarOp::Rem => {
                let name = self.writer.node("Mod", &[&a.name, &args[1].name], &[("fmod", Field::Int(1))]);
                let shape = a.shape.broadcast(&args[1].shape).unwrap_or_else(|| self.shape.clone());
                Ok(Scalar { name, dtype, shape })
            }
            ScalarOp::Rsqrt => {
                let root = self.taken("Sqrt", Takes::Floats, &[a])?;
                self.taken("Reciprocal", Takes::Floats, &[root])
            }
            ScalarOp::Trunc => {
                let magnitude = self.taken("Abs", Takes::Numbers, std::slice::from_ref(&a))?;
                let floor = self.taken("Floor", Takes::Floats, &[magnitude])?;
                let sign = self.taken("Sign", Takes::Numbers, &[a])?;
                self.binary("Mul", &sign, &floor)
            }
            // log(u) x / (u - 1) with u = 1 + x as it was rounded.
            ScalarOp::Log1p => {
                let u = self.binary("Add", &a, &one)?;
                let log = self.taken("Log", Takes::Floats, std::slice::from_ref(&u))?;
                let rest = self.binary("Sub", &u, &one)?;
                let ratio = self.binary("Div", &a, &rest)?;
                let scaled = self.binary("Mul", &log, &ratio)?;
                let (is_one, is_large) = (self.compare("Equal", &u, &one), self.compare("Greater", &a, &one));
                let value = self.choose(&is_large, &log, &scaled);
                Ok(self.choose(&is_one, &a, &value))
            }
            // 2 t / (1 - t) with t = tanh(x / 2), where that is near 0.
            ScalarOp::Expm1 => {
                let (half, two) = (self.number(dtype, 0.5)?, self.number(dtype, 2.0)?);
                let halved = self.binary("Mul", &a, &half)?;
                let tanh = self.taken("Tanh", Takes::Floats, &[halved])?;
                let rest = self.binary("Sub", &one, &tanh)?;
                let doubled = self.binary("Mul", &tanh, &two)?;
                let near = self.binary("Div", &doubled, &rest)?;
                let exp = self.taken("Exp", Takes::Floats, std::slice::from_ref(&a))?;
                let far = self.binary("Sub", &exp, &one)?;
                let magnitude = self.taken("Abs", Takes::Numbers, &[a])?;
                let is_near = self.compare("Less", &magnitude, &one);
                Ok(self.choose(&is_near, &near, &far))
            }
            ScalarOp::Atan2 => self.angle(&a, &args[1]),
            _ => Err(format!("ONNX has no {} of {dtype}", op.name())),
        }
    }

    /// The angle of (y, x): that of the quotient, in the half plane where the point lies.
    fn angle(&mut self, y: &Scalar, x: &Scalar) -> Result<Scalar, String> {
        let dtype = y.dtype;
        let (zero, pi) = (self.number(dtype, 0.0)?, self.number(dtype, std::f64::consts::PI)?);
        let one = self.number(dtype, 1.0)?;
        // Two infinities count as two ones, and two zeros as a point on the axis.
        let (y_far, x_far) = (self.plain("IsInf", &[y], DType::Bool), self.plain("IsInf", &[x], DType::Bool));
        let both = self.plain("And", &[&y_far, &x_far], DType::Bool);
        let (y_sign, x_sign) = (self.plain("Sign", &[y], dtype), self.plain("Sign", &[x], dtype));
        let (y, x) = (self.choose(&both, &y_sign, y), self.choose(&both, &x_sign, x));
        let left = self.is_below(&x, &zero)?;
        let down = self.is_below(&y, &zero)?;
        let is_zero = self.compare("Equal", &y, &zero);
        let divisor = {
            let x_zero = self.compare("Equal", &x, &zero);
            let origin = self.plain("And", &[&is_zero, &x_zero], DType::Bool);
            self.choose(&origin, &one, &x)
        };
        let quotient = self.binary("Div", &y, &divisor)?;
        let angle = self.taken("Atan", Takes::IeeeFloats, &[quotient])?;
        let minus = self.plain("Neg", &[&pi], dtype);
        let turn = self.choose(&down, &minus, &pi);
        let turned = self.binary("Add", &angle, &turn)?;
        // On the axis there is no quotient to turn: a zero keeps its sign.
        let on_left = self.choose(&is_zero, &turn, &turned);
        // Where x is a zero the quotient has the sign of that zero.
        let magnitude = self.taken("Abs", Takes::Numbers, std::slice::from_ref(&angle))?;
        let negated = self.plain("Neg", &[&magnitude], dtype);
        let upright = self.choose(&down, &negated, &magnitude);
        let x_zero = self.compare("Equal", &x, &zero);
        let sided = self.choose(&left, &on_left, &angle);
        let y_there = self.plain("Not", &[&is_zero], DType::Bool);
        let vertical = self.plain("And", &[&x_zero, &y_there], DType::Bool);
        Ok(self.choose(&vertical, &upright, &sided))
    }

    /// Negative, or a zero with that sign.
    fn is_below(&mut self, x: &Scalar, zero: &Scalar) -> Result<Scalar, String> {
        let inverse = self.taken("Reciprocal", Takes::Floats, std::slice::from_ref(x))?;
        let (below, inverse) = (self.compare("Less", x, zero), self.compare("Less", &inverse, zero));
        Ok(self.plain("Or", &[&below, &inverse], DType::Bool))
    }
}

/// Primitives that are one op of ONNX wherever it takes the dtype.
fn direct(op: ScalarOp) -> Option<(&'static str, Takes)> {
    use ScalarOp as S;
    const DIRECT: &[(ScalarOp, &str, Takes)] = &[
        (S::Abs, "Abs", Takes::Numbers),
        (S::Sign, "Sign", Takes::Numbers),
        (S::Floor, "Floor", Takes::Floats),
        (S::Ceil, "Ceil", Takes::Floats),
        (S::Round, "Round", Takes::IeeeFloats),
        (S::Sqrt, "Sqrt", Takes::Floats),
        (S::Exp, "Exp", Takes::Floats),
        (S::Log, "Log", Takes::Floats),
        (S::Sin, "Sin", Takes::IeeeFloats),
        (S::Cos, "Cos", Takes::IeeeFloats),
        (S::Tan, "Tan", Takes::IeeeFloats),
        (S::Asin, "Asin", Takes::IeeeFloats),
        (S::Acos, "Acos", Takes::IeeeFloats),
        (S::Atan, "Atan", Takes::IeeeFloats),
        (S::Sinh, "Sinh", Takes::IeeeFloats),
        (S::Cosh, "Cosh", Takes::IeeeFloats),
        (S::Tanh, "Tanh", Takes::Floats),
        (S::Asinh, "Asinh", Takes::IeeeFloats),
        (S::Acosh, "Acosh", Takes::IeeeFloats),
        (S::Atanh, "Atanh", Takes::IeeeFloats),
        (S::Erf, "Erf", Takes::Floats),
        (S::Add, "Add", Takes::Numbers),
        (S::Sub, "Sub", Takes::Numbers),
        (S::Mul, "Mul", Takes::Numbers),
        (S::Max, "Max", Takes::Numbers),
        (S::Min, "Min", Takes::Numbers),
    ];
    DIRECT.iter().find(|(of, _, _)| *of == op).map(|&(_, name, takes)| (name, takes))
}
