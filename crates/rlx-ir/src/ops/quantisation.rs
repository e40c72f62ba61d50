//! What the quantisation ops share: how scales and zero points lie over a tensor, whole rows of storage-only dtypes,
//! and the way from integer sums back to a small integer type.

use crate::ops::prelude::*;

/// The last extent of a storage-only `ty` is made of whole blocks (or bytes).
pub fn check_whole_units(label: &'static str, ty: &TensorType) -> Result<(), Violation> {
    let (elements, _) = ty.dtype.storage_unit();
    let last = ty.shape.dims().last().cloned().unwrap_or(Dim::from(1));
    let whole = last.modulo(&Dim::from(elements)).is(0);
    require!(label, whole, "rows of {ty} are not made of whole units of {elements} elements");
    Ok(())
}

/// The dtype that quantised numbers of a float dtype are computed in.
pub(crate) fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// `scale`, and `zero_point` of dtype `code` like it, lie over a tensor of type `x`: they broadcast to it, or have one
/// element per block of extents `block`.
pub(crate) fn check_scales(
    [scales, zeros, blocks]: [&'static str; 3],
    (x, code): (&TensorType, DType),
    scale: &TensorType,
    zero_point: Option<&TensorType>,
    block: &[usize],
) -> Result<(), Violation> {
    let legal = scale.dtype.is_float() && !scale.dtype.is_storage_only();
    require!(scales, legal, "a scale has a float dtype, found {}", scale.dtype);
    if let Some(zero_point) = zero_point {
        let expected = TensorType::new(code, scale.shape.clone());
        require!(zeros, code.is_int(), "{code} has no zero point");
        require!(zeros, *zero_point == expected, "the zero point must be {expected}, found {zero_point}");
    }
    if block.is_empty() {
        let fits = scale.shape.broadcast(&x.shape).as_ref() == Some(&x.shape);
        require!(blocks, fits, "a scale of shape {} does not broadcast to {x}", scale.shape);
        return Ok(());
    }
    let legal = block.len() == x.rank() && !block.contains(&0);
    require!(blocks, legal, "block {block:?} must have one extent of 1 or more per axis of {x}");
    let counts: Vec<Dim> =
        x.shape.dims().iter().zip(block).map(|(dim, &block)| dim.ceil_div(&Dim::from(block))).collect();
    let expected = Shape::from(counts);
    require!(blocks, scale.shape == expected, "expected scales of shape {expected}, found {}", scale.shape);
    Ok(())
}

/// A tensor with its axes cut into blocks, so that scales broadcast to it.
pub(crate) struct Blocked {
    /// Extents of a block along each axis; 1 where a scale stands for each element.
    block: Vec<usize>,
    shape: Shape,
}

impl Blocked {
    /// Blocks over `shape`; `block` may be empty.
    pub fn new(shape: &Shape, block: &[usize]) -> Blocked {
        let whole = |(dim, &block): (&Dim, &usize)| match dim.modulo(&Dim::from(block)).is(0) {
            true => block,
            false => 1,
        };
        Blocked { block: shape.dims().iter().zip(block).map(whole).collect(), shape: shape.clone() }
    }

    /// Extents with two axes, blocks and their elements, for each that is cut.
    fn cut(&self, dims: &[Dim], inside: impl Fn(usize) -> Dim) -> Vec<Dim> {
        let cut = dims.iter().enumerate().flat_map(|(axis, dim)| match self.block.get(axis) {
            Some(&block) if block > 1 => vec![dim.clone(), inside(block)],
            _ => vec![dim.clone()],
        });
        cut.collect()
    }

    /// `x` cut.
    pub fn values(&self, g: &mut Graph, x: Value) -> Value {
        let of_blocks = |(axis, dim): (usize, &Dim)| match self.block.get(axis) {
            Some(&block) => dim.floor_div(&Dim::from(block)),
            None => dim.clone(),
        };
        let counts: Vec<Dim> = self.shape.dims().iter().enumerate().map(of_blocks).collect();
        let dims = self.cut(&counts, Dim::from);
        if dims.len() == self.shape.rank() { x } else { g.reshape(x, dims) }
    }

    /// Scales or zero points, for blocks of `block`, cut in the same way.
    pub fn scales(&self, g: &mut Graph, mut scale: Value, block: &[usize]) -> Value {
        for (axis, &wanted) in block.iter().enumerate() {
            if wanted != self.block[axis] {
                // The last block is not whole: each position along the axis takes its own scale.
                let positions = g.iota(DType::I64, vec![self.shape[axis].clone()], 0usize);
                let extent = g.scalar(DType::I64, wanted as f64);
                let of = g.div(positions, extent);
                scale = g.gather(scale, of, axis);
            }
        }
        let Some(dims) = g.try_ty(scale).map(|ty| ty.shape.dims().to_vec()) else { return Value::POISON };
        let cut = self.cut(&dims, |_| Dim::from(1));
        if block.is_empty() || cut.len() == dims.len() { scale } else { g.reshape(scale, cut) }
    }

    /// `y`, computed on what was cut, in one piece.
    pub fn join(&self, g: &mut Graph, y: Value) -> Value {
        match g.try_ty(y) {
            Some(ty) if ty.shape != self.shape => g.reshape(y, self.shape.clone()),
            _ => y,
        }
    }
}

/// The numbers of `x` in float dtype `dtype`, whatever it is stored as.
pub(crate) fn numbers(g: &mut Graph, x: Value, dtype: DType) -> Value {
    let packed = g.try_ty(x).is_some_and(|ty| ty.dtype.is_storage_only());
    let x = if packed { g.decode_storage(x) } else { x };
    g.cast_to(x, dtype)
}

/// What a product with a quantised weight checks of it: the constraints of [`Dequantize`], all under `label`. The
/// result is the type of the weight in `dtype`.
pub(crate) fn dequantized(
    label: &'static str,
    op: &Dequantize,
    operands: &[&TensorType],
) -> Result<TensorType, Violation> {
    let relabel = |violation: Violation| Violation {
        constraint: label,
        message: format!("the weight: {} ({} of dequantize)", violation.message, violation.constraint),
    };
    op.infer(operands).map(|mut types| types.remove(0)).map_err(relabel)
}

/// Operand types of a weight of extents `dims` in every kind of storage: codes, then scale and zero point as given,
/// each with its blocks.
pub(crate) fn weight_samples(dims: &[usize], float: DType) -> Vec<(Dequantize, Vec<TensorType>)> {
    let (last, rank) = (dims[dims.len() - 1], dims.len());
    let mut samples = vec![];
    let mut add = |code: DType, scale: Option<(DType, usize)>, zero_point: bool| {
        let mut types = vec![TensorType::new(code, dims)];
        let mut block = vec![1; rank];
        if let Some((dtype, len)) = scale {
            block[rank - 1] = len;
            let mut counts = dims.to_vec();
            counts[rank - 1] = last.div_ceil(len);
            types.push(TensorType::new(dtype, counts.as_slice()));
            if zero_point {
                types.push(TensorType::new(code, counts.as_slice()));
            }
        }
        let block = if scale.is_some() { block } else { vec![] };
        let scale = scale.is_some();
        samples.push((Dequantize { block, to: float, scale, zero_point }, types));
    };
    for &code in DType::ALL {
        if code.class() == DTypeClass::Block && last.is_multiple_of(code.block_elements()) {
            add(code, None, false);
        }
    }
    add(DType::I8, Some((DType::F32, last)), false);
    add(DType::I4, Some((DType::F16, 32)), false);
    add(DType::U4, Some((DType::F32, 48)), true);
    add(DType::F8E4M3, Some((DType::F32, 128)), false);
    add(DType::F4E2M1, Some((DType::F8E8M0, 32)), false);
    add(DType::F4E2M1, Some((DType::F8E4M3, 16)), false);
    samples
}

/// Integers less their zero point, in `i32`.
pub(crate) fn centred(g: &mut Graph, x: Value, zero_point: Option<Value>) -> Value {
    let x = g.cast_to(x, DType::I32);
    let zero_point = zero_point.map(|zero_point| g.cast_to(zero_point, DType::I32));
    zero_point.map_or(x, |zero_point| g.sub(x, zero_point))
}

/// `i32` sums with `bias`, times `mult`, rounded, moved by `zero_point`, saturated to `to`; without `mult` as they are.
pub(crate) fn requantize(
    g: &mut Graph,
    mut sum: Value,
    [bias, mult, zero_point]: [Option<Value>; 3],
    to: DType,
) -> Value {
    if let Some(bias) = bias {
        sum = g.add(sum, bias);
    }
    let Some(mult) = mult else { return sum };
    let sum = g.cast(sum, DType::F32);
    let scaled = g.mul(sum, mult);
    let mut y = g.push(Activation::of(ActivationKind::Round), &[scaled]);
    if let Some(zero_point) = zero_point {
        let zero_point = g.cast(zero_point, DType::F32);
        y = g.add(y, zero_point);
    }
    // A cast to an integer saturates.
    g.cast(y, to)
}

/// Operand types of the way back from `i32` sums of type `sum`, each operand under its own shape rule.
pub(crate) fn check_requantize(
    [results, shapes]: [&'static str; 2],
    sum: &TensorType,
    operands: [Option<&TensorType>; 3],
    to: DType,
) -> Result<(), Violation> {
    let small = matches!(to, DType::I8 | DType::U8);
    let [_, mult, zero_point] = operands;
    let legal = if mult.is_some() { small } else { to == DType::I32 && zero_point.is_none() };
    require!(
        results,
        legal,
        "a result of {to}: i8 and u8 need `mult`, i32 takes neither it nor `y_zero_point`"
    );
    for ((name, dtype), ty) in
        [("bias", DType::I32), ("mult", DType::F32), ("y_zero_point", to)].iter().zip(operands)
    {
        let Some(ty) = ty else { continue };
        let fits = ty.dtype == *dtype && ty.shape.broadcast(&sum.shape).as_ref() == Some(&sum.shape);
        require!(shapes, fits, "`{name}` is {ty}, expected {dtype} that broadcasts to {}", sum.shape);
    }
    Ok(())
}

/// Operands `a` and `b` of an integer product, and their zero points.
pub(crate) fn check_codes(
    label: &'static str,
    codes: [&TensorType; 2],
    zero_points: [Option<&TensorType>; 2],
) -> Result<(), Violation> {
    for (code, zero_point) in codes.into_iter().zip(zero_points) {
        require!(label, matches!(code.dtype, DType::I8 | DType::U8), "expected i8 or u8, found {code}");
        let Some(zero_point) = zero_point else { continue };
        let over = zero_point.shape.broadcast(&code.shape).as_ref() == Some(&code.shape);
        let fits = zero_point.dtype == code.dtype && over;
        require!(
            label,
            fits,
            "a zero point is {zero_point}, expected {} that broadcasts to {code}",
            code.dtype
        );
    }
    Ok(())
}
