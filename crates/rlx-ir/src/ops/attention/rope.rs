//! `rope`: rotary position embedding.

use crate::ops::prelude::*;

attr_enum! {
    /// Which elements of a head form a pair.
    RopeStyle {
        /// Element `i` and element `i + n_rot / 2`.
        HalfSplit = "half_split",
        /// Elements `2 i` and `2 i + 1`.
        Interleaved = "interleaved",
    }
}

op! {
    /// Rotates pairs of elements of each head by the angle of its position: a pair `(a, b)`
    /// becomes `(a c - b s, b c + a s)`.
    ///
    /// The last axis of `x` holds heads of `head_dim` side by side (one or more), `axis` is the
    /// sequence axis. Pair `i` of the first `n_rot` elements of a head at sequence index `t` takes
    /// `c = cos[row, i]` and `s = sin[row, i]`; the elements from `n_rot` on are copied.
    ///
    /// Without `positions` the tables are `[S, n_rot / 2]` and `row = t`, or `[B, S, n_rot / 2]`
    /// with tables of their own for each `B` along axis 0 of `x`. With `positions` they are
    /// `[rows, n_rot / 2]`, and `row = positions[t]`, or `positions[b, t]` with `b` along axis 0.
    ///
    /// (C1) `x` has a float dtype; `cos` and `sin` have one type, in the dtype of `x` or `f32`.
    /// (C2) `axis` is an axis of `x` before the last.
    /// (C3) `head_dim` is at least 1 and divides the last extent; `n_rot` is even and at most `head_dim`.
    /// (C4) The tables have the shape given above; their last extent is `n_rot / 2`.
    /// (C5) `positions` is i32, i64 or u32, `[S]` or `[B, S]`; each in `0 .. rows`.
    /// (C6) Tables or positions with a batch need `axis` to be 1 or more.
    /// Half-precision operands are rotated in f32.
    rope: Rope(x, cos, sin)[positions] -> y {
        /// Sequence axis.
        axis: usize,
        /// Elements of a head.
        head_dim: usize,
        /// Leading elements of a head that are rotated.
        n_rot: usize,
        /// Which elements form a pair.
        style: RopeStyle,
    }
}

impl OpSpec for Rope {
    const MEANING: Meaning<Self> =
        Meaning::composite_with_eval(Self::decompose, Self::eval).checked(|op, types| {
            let positions = op.operand_index("positions");
            positions.map(|index| ValueRange::below(index, types[1].shape[0].clone())).into_iter().collect()
        });
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| match given.wanted[1..].contains(&true) {
        false => Ok(vec![Some(g.rope_backward(op, given.operands, given.cotangent())), None, None, None]),
        true => Err("the tables are differentiated"),
    });
    const JVP: Jvp<Self> = Jvp::Rule(|op, g, given| match given.tangents[1..].iter().all(Option::is_none) {
        true => {
            let turned = |tangent| g.push(op.clone(), &[&[tangent], &given.operands[1..]].concat());
            Ok(vec![given.tangents[0].map(turned)])
        }
        false => Err("the tables are differentiated"),
    });
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 2 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[2, 2, 3, 8], f32[3, 4], f32[3, 4] {axis = 2, head_dim = 8, n_rot = 8, style = half_split}",
        "f32[2, 3, 2, 6], f32[3, 2], f32[3, 2] {axis = 1, head_dim = 6, n_rot = 4}",
        "bf16[2, 3, 12], f32[3, 1], f32[3, 1] {axis = 1, head_dim = 6, n_rot = 2}",
        "f16[3, 4], f16[3, 1], f16[3, 1] {axis = 0, head_dim = 2, n_rot = 2}",
        "f32[3, 5], f32[3, 0], f32[3, 0] {axis = 0, head_dim = 5, n_rot = 0}",
        "f64[1, 1, 2], f64[1, 1], f64[1, 1] {axis = 1, head_dim = 2, n_rot = 2}",
        "f32[2, 0, 4], f32[0, 2], f32[0, 2] {axis = 1, head_dim = 4, n_rot = 4}",
        "f32[0, 3, 4], f32[3, 2], f32[3, 2] {axis = 1, head_dim = 4, n_rot = 4}",
        "f32[2, 2, 3, 6], f32[2, 3, 2], f32[2, 3, 2] {head_dim = 6, n_rot = 4}",
        "f32[2, 2, 3, 6], f32[7, 2], f32[7, 2], i32[3] in [0, 7) {head_dim = 6, n_rot = 4, positions = true}",
        "f32[2, 2, 3, 6], f32[7, 2], f32[7, 2], i64[2, 3] in [0, 7) \
         {head_dim = 6, n_rot = 4, positions = true}",
        "f32[2, 2, 3, 6], f32[7, 2], f32[7, 2], u32[2, 3] in [0, 7) \
         {head_dim = 6, n_rot = 4, positions = true}",
        "f32[2, 2, 3, 8], f32[3, 4], f32[3, 4] {style = interleaved}",
        "f32[2, 3, 2, 6], f32[3, 2], f32[3, 2] {axis = 1, head_dim = 6, n_rot = 4, style = interleaved}",
        "bf16[2, 3, 12], f32[3, 1], f32[3, 1] {axis = 1, head_dim = 6, n_rot = 2, style = interleaved}",
        "f16[3, 4], f16[3, 1], f16[3, 1] {axis = 0, head_dim = 2, n_rot = 2, style = interleaved}",
        "f32[3, 5], f32[3, 0], f32[3, 0] {axis = 0, head_dim = 5, n_rot = 0, style = interleaved}",
        "f64[1, 1, 2], f64[1, 1], f64[1, 1] {axis = 1, head_dim = 2, n_rot = 2, style = interleaved}",
        "f32[2, 0, 4], f32[0, 2], f32[0, 2] {axis = 1, head_dim = 4, n_rot = 4, style = interleaved}",
        "f32[0, 3, 4], f32[3, 2], f32[3, 2] {axis = 1, head_dim = 4, n_rot = 4, style = interleaved}",
        "f32[2, 2, 3, 6], f32[2, 3, 2], f32[2, 3, 2] {head_dim = 6, n_rot = 4, style = interleaved}",
        "f32[2, 2, 3, 6], f32[7, 2], f32[7, 2], i32[3] in [0, 7) \
         {head_dim = 6, n_rot = 4, style = interleaved, positions = true}",
        "f32[2, 2, 3, 6], f32[7, 2], f32[7, 2], i64[2, 3] in [0, 7) \
         {head_dim = 6, n_rot = 4, style = interleaved, positions = true}",
        "f32[2, 2, 3, 6], f32[7, 2], f32[7, 2], u32[2, 3] in [0, 7) \
         {head_dim = 6, n_rot = 4, style = interleaved, positions = true}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (x, cos, sin) = (operands[0], operands[1], operands[2]);
        require!("C1", x.dtype.is_float() && !x.dtype.is_storage_only(), "rope does not take {}", x.dtype);
        require!("C1", cos == sin, "cos is {cos}, sin is {sin}");
        let dtype = cos.dtype;
        let fits = dtype == x.dtype || dtype == DType::F32;
        require!("C1", fits, "the tables must be {} or f32, found {dtype}", x.dtype);
        require!(
            "C2",
            self.axis < x.rank().saturating_sub(1),
            "axis {} is not before the last of {x}",
            self.axis
        );
        let last = &x.shape[x.rank() - 1];
        let divides = self.head_dim > 0 && last.modulo(&Dim::from(self.head_dim)).is(0);
        require!("C3", divides, "head_dim {} does not divide the last extent {last}", self.head_dim);
        let even = self.n_rot.is_multiple_of(2) && self.n_rot <= self.head_dim;
        require!("C3", even, "n_rot {} must be even and at most head_dim {}", self.n_rot, self.head_dim);
        let (sequence, half) = (&x.shape[self.axis], Dim::from(self.n_rot / 2));
        let positions = operands.get(3);
        let batched = match positions {
            Some(positions) => positions.rank() == 2,
            None => cos.rank() == 3,
        };
        require!("C6", !batched || self.axis > 0, "a batch of tables or positions needs axis 1 or more");
        let mut steps = vec![sequence.clone()];
        if batched {
            steps.insert(0, x.shape[0].clone());
        }
        let Some(positions) = positions else {
            steps.push(half);
            let fits = cos.shape.dims() == steps;
            require!("C4", fits, "cos and sin must be {}, found {cos}", TensorType::new(dtype, steps));
            return Ok(vec![x.clone()]);
        };
        let fits = cos.rank() == 2 && cos.shape[1] == half;
        require!("C4", fits, "cos and sin must be [rows, {half}], found {cos}");
        check_index_dtype("C5", "positions", positions)?;
        let fits = positions.shape.dims() == steps;
        let expected = TensorType::new(positions.dtype, steps);
        require!("C5", fits, "positions must be {expected}, found {positions}");
        Ok(vec![x.clone()])
    }
}

impl Graph {
    /// The derivative by `x` of a [`Rope`] on `operands`: the rotation by the opposite angles.
    #[track_caller]
    pub fn rope_backward(&mut self, op: &Rope, operands: &[Value], dy: Value) -> Value {
        let sin = self.neg(operands[2]);
        self.push(op.clone(), &[&[dy, operands[1], sin], &operands[3..]].concat())
    }
}

impl Rope {
    /// Is there a row of the tables (or a position) per batch?
    fn is_batched(&self, table_rank: usize, positions_rank: Option<usize>) -> bool {
        positions_rank.map_or(table_rank == 3, |rank| rank == 2)
    }

    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let x = operands[0];
        let dims = x.dims();
        let (sequence, half) = (dims[self.axis], self.n_rot / 2);
        let positions = operands.get(3);
        let batched = self.is_batched(operands[1].dims().len(), positions.map(|p| p.dims().len()));
        let rows = match positions {
            Some(_) => Some(read_values(self, operands, 3)?),
            None => None,
        };
        let (cos, sin, input) = (operands[1].to_f64s(), operands[2].to_f64s(), x.to_f64s());
        let mut results = vec![];
        for_each_index(dims, |index| {
            let position = results.len();
            let within = index[dims.len() - 1] % self.head_dim;
            let step = if batched { index[0] * sequence } else { 0 } + index[self.axis];
            let row = rows.as_ref().map_or(step, |rows| rows[step]);
            results.push(Number::Float(match self.partner(within) {
                None => input[position],
                Some((pair, first, other)) => {
                    let partner = input[position - within + other];
                    let (c, s) = (cos[row * half + pair], sin[row * half + pair]);
                    input[position] * c + if first { -partner * s } else { partner * s }
                }
            }));
        });
        Ok(vec![Literal::from_numbers(x.dtype(), dims, results)?])
    }

    /// For an element of a head: its pair, whether it is the first of it, and the other one.
    fn partner(&self, element: usize) -> Option<(usize, bool, usize)> {
        if element >= self.n_rot {
            return None;
        }
        let half = self.n_rot / 2;
        Some(match self.style {
            RopeStyle::HalfSplit if element < half => (element, true, element + half),
            RopeStyle::HalfSplit => (element - half, false, element - half),
            RopeStyle::Interleaved => (element / 2, element.is_multiple_of(2), element ^ 1),
        })
    }

    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let ty = g.ty(operands[0]).clone();
        let last = ty.rank();
        let heads = ty.shape[last - 1].floor_div(&Dim::from(self.head_dim));
        let mut dims = ty.shape.dims().to_vec();
        dims[last - 1] = heads;
        dims.push(Dim::from(self.head_dim));
        let x = g.accumulation_cast(operands[0]);
        let x = g.reshape(x, dims.clone());
        let rotated = g.narrow(x, last, 0, self.n_rot);
        let (a, b) = self.split_pairs(g, rotated, &dims);
        // Tables of `f32` beside an `f64` operand are widened to it.
        let wide = g.ty(x).dtype;
        let [c, s] = [1, 2].map(|operand| self.table(g, operands, operand, &dims));
        let (c, s) = (g.cast_to(c, wide), g.cast_to(s, wide));
        let (ac, bs) = (g.mul(a, c), g.mul(b, s));
        let (bc, as_) = (g.mul(b, c), g.mul(a, s));
        let (a, b) = (g.sub(ac, bs), g.add(bc, as_));
        let mut parts = self.join_pairs(g, a, b, &dims);
        if self.n_rot < self.head_dim {
            parts.push(g.narrow(x, last, self.n_rot, self.head_dim - self.n_rot));
        }
        let y = g.concat(&parts, last);
        let y = g.reshape(y, ty.shape.clone());
        vec![g.cast_to(y, ty.dtype)]
    }

    /// First and second elements of the pairs of `x`, each `[.., n_rot / 2]`.
    fn split_pairs(&self, g: &mut Graph, x: Value, dims: &[Dim]) -> (Value, Value) {
        let (last, half) = (dims.len() - 1, self.n_rot / 2);
        match self.style {
            RopeStyle::HalfSplit => (g.narrow(x, last, 0, half), g.narrow(x, last, half, half)),
            RopeStyle::Interleaved => {
                let mut paired = dims.to_vec();
                paired[last] = Dim::from(half);
                let flat = paired.clone();
                paired.push(Dim::from(2));
                let x = g.reshape(x, paired);
                let mut part = |start: usize| {
                    let part = g.narrow(x, last + 1, start, 1);
                    g.reshape(part, flat.clone())
                };
                (part(0), part(1))
            }
        }
    }

    /// Inverse of [`Rope::split_pairs`], as parts to concatenate.
    fn join_pairs(&self, g: &mut Graph, a: Value, b: Value, dims: &[Dim]) -> Vec<Value> {
        if self.style == RopeStyle::HalfSplit {
            return vec![a, b];
        }
        let last = dims.len() - 1;
        let mut single = dims.to_vec();
        single[last] = Dim::from(self.n_rot / 2);
        single.push(Dim::from(1));
        let parts = [a, b].map(|part| g.reshape(part, single.clone()));
        let pairs = g.concat(&parts, last + 1);
        let mut whole = dims.to_vec();
        whole[last] = Dim::from(self.n_rot);
        vec![g.reshape(pairs, whole)]
    }

    /// Table `operand` with a row per sequence index, broadcastable to `dims`.
    fn table(&self, g: &mut Graph, operands: &[Value], operand: usize, dims: &[Dim]) -> Value {
        let positions = operands.get(3);
        let rank = g.ty(operands[operand]).rank();
        let batched = self.is_batched(rank, positions.map(|&positions| g.ty(positions).rank()));
        let table = match positions {
            Some(&positions) => g.gather(operands[operand], positions, 0usize),
            None => operands[operand],
        };
        let mut shape = vec![Dim::from(1); dims.len()];
        shape[self.axis] = dims[self.axis].clone();
        if batched {
            shape[0] = dims[0].clone();
        }
        shape[dims.len() - 1] = Dim::from(self.n_rot / 2);
        g.reshape(table, shape)
    }
}
