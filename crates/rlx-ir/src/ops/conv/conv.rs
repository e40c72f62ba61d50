//! `conv`: convolution (cross-correlation) over one, two or three spatial axes.

use crate::ops::prelude::*;
use crate::ops::window::{WindowAttributes, WindowAxis};

op! {
    /// `y[n, o, p..] = bias[o] + sum over c, t.. of x[n, c', p stride - padding_low + t dilation ..] w[o, c, t..]`,
    /// where `c'` is channel `c` of the group that `o` belongs to.
    ///
    /// `x[N, C, spatial..]`, `w[O, C / groups, window..]`, `bias[O]` give `y[N, O, windows..]`; the window is
    /// not mirrored (as in ONNX and PyTorch). Elements outside the input count as 0. Along each axis there are
    /// `floor((extent + padding_low + padding_high - dilation (window - 1) - 1) / stride) + 1` windows.
    ///
    /// (C1) All operands have one float dtype.
    /// (C2) `x` and `w` have one rank of 3, 4 or 5.
    /// (C3) The lists have one entry per spatial axis; strides and dilations are at least 1.
    /// (C4) `groups` is at least 1, `C = groups w.shape[1]`, and `groups` divides `O`.
    /// (C5) Along each axis the window has an element and fits the padded input.
    /// (C6) `bias` is `[O]`.
    /// Half-precision products accumulate in f32.
    conv: Conv(x, w)[bias] -> y {
        /// Distance from one window to the next, per spatial axis.
        stride: Vec<usize>,
        /// Zeros before the first element, per spatial axis.
        padding_low: Vec<usize>,
        /// Zeros after the last element, per spatial axis.
        padding_high: Vec<usize>,
        /// Distance between the elements of a window, per spatial axis.
        dilation: Vec<usize>,
        /// Groups of channels that do not mix.
        groups: usize,
    }
}

impl Conv {
    /// Stride 1, no padding, no dilation, one group, no bias, over `axes` spatial axes.
    pub fn plain(axes: usize) -> Conv {
        let (ones, zeros) = (vec![1; axes], vec![0; axes]);
        let (stride, dilation) = (ones.clone(), ones);
        Conv { stride, padding_low: zeros.clone(), padding_high: zeros, dilation, groups: 1, bias: false }
    }

    /// The windows along spatial axis `axis`.
    pub fn window_axis(&self, axis: usize) -> WindowAxis {
        self.windows().axis(axis)
    }

    fn windows(&self) -> WindowAttributes<'_> {
        WindowAttributes {
            stride: &self.stride,
            padding_low: &self.padding_low,
            padding_high: &self.padding_high,
            dilation: &self.dilation,
        }
    }
}

impl Graph {
    /// Appends `op` with its bias flag taken from `bias`.
    #[track_caller]
    pub fn convolve(&mut self, op: Conv, x: Value, w: Value, bias: Option<Value>) -> Value {
        let op = Conv { bias: bias.is_some(), ..op };
        self.push(op, &[x, w].into_iter().chain(bias).collect::<Vec<_>>())
    }
}

impl OpSpec for Conv {
    const MEANING: Meaning<Self> = Meaning::primitive(Self::eval);
    const VJP: Vjp<Self> = Vjp::Rule(|op, g, given| {
        let (x, w, dy) = (given.operands[0], given.operands[1], given.cotangent());
        let shapes = [x, w].map(|operand| g.ty(operand).shape.clone());
        let rank = shapes[0].rank();
        let mut derivatives = vec![
            given.wanted[0].then(|| g.conv2d_backward_input(op, dy, w, &shapes[0])),
            given.wanted[1].then(|| g.conv2d_backward_weight(op, x, dy, &shapes[1])),
        ];
        if op.bias {
            let axes = [vec![0], (2..rank).collect()].concat();
            derivatives.push(Some(g.reduce(dy, ReduceKind::Sum, axes, false)));
        }
        Ok(derivatives)
    });
    const JVP: Jvp<Self> = Jvp::Rule(|op, g, given| {
        let shape = g.ty(given.results[0]).shape.clone();
        let mut terms = vec![];
        for index in 0..2 {
            let mut factors = [given.operands[0], given.operands[1]];
            if let Some(tangent) = given.tangents[index] {
                factors[index] = tangent;
                terms.push(g.convolve(op.clone(), factors[0], factors[1], None));
            }
        }
        if let Some(bias) = given.tangents.get(2).copied().flatten() {
            let mut dims = vec![Dim::from(1); shape.rank()];
            dims[1] = shape[1].clone();
            let bias = g.reshape(bias, dims);
            terms.push(g.expand(bias, shape));
        }
        Ok(vec![terms.into_iter().reduce(|sum, term| g.add(sum, term))])
    });
    const BATCH: Batch<Self> = Batch::Rule(Self::batch);
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 256 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[2, 3, 6], f32[4, 3, 3] {stride = [1], padding_low = [0], padding_high = [0], dilation = [1], \
         groups = 1}",
        "f32[1, 2, 4, 5], f32[3, 2, 3, 2] {stride = [1, 1], padding_low = [0, 0], padding_high = [0, 0], \
         dilation = [1, 1]}",
        "f32[1, 2, 3, 3, 3], f32[2, 2, 2, 2, 2] {stride = [1, 1, 1], padding_low = [0, 0, 0], \
         padding_high = [0, 0, 0], dilation = [1, 1, 1]}",
        "bf16[2, 2, 5], bf16[3, 2, 1], bf16[3] {bias = true}",
        "f32[2, 3, 5, 6], f32[2, 3, 3, 3], f32[2] \
         {stride = [2, 1], padding_low = [1, 0], padding_high = [2, 1], dilation = [1, 2], bias = true}",
        "f32[1, 4, 5, 6], f32[6, 2, 3, 3], f32[6] \
         {stride = [2, 1], padding_low = [1, 0], padding_high = [2, 1], dilation = [1, 2], groups = 2, \
         bias = true}",
        "f16[1, 3, 4, 4], f16[3, 1, 3, 3] {stride = [1, 1], padding_low = [0, 0], padding_high = [0, 0], \
         dilation = [1, 1], groups = 3}",
        "f64[1, 1, 2, 3], f64[1, 1, 1, 1], f64[1] \
         {stride = [2, 1], padding_low = [1, 0], padding_high = [2, 1], dilation = [1, 2], bias = true}",
        "f32[1, 1, 1, 1], f32[1, 1, 1, 1] {stride = [1, 1], padding_low = [0, 0], padding_high = [0, 0], \
         dilation = [1, 1]}",
        "f32[0, 2, 5], f32[3, 2, 3]",
        "f32[1, 2, 5], f32[0, 2, 3]",
        "f32[1, 0, 5], f32[2, 0, 3], f32[2] {bias = true}",
        "f32[1, 1, 0], f32[1, 1, 3] {padding_low = [2], padding_high = [2]}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (x, w) = (operands[0], operands[1]);
        same_dtype("C1", operands)?;
        require!("C1", x.dtype.is_float() && !x.dtype.is_storage_only(), "conv does not take {}", x.dtype);
        let legal = x.rank() == w.rank() && (3..=5).contains(&x.rank());
        require!("C2", legal, "x and w must have one rank of 3, 4 or 5, found {x} and {w}");
        let axes = x.rank() - 2;
        self.windows().check("C3", axes)?;
        let groups = Dim::from(self.groups);
        require!("C4", self.groups > 0, "groups must be at least 1");
        let channels = groups.clone() * w.shape[1].clone();
        require!("C4", x.shape[1] == channels, "x has {} channels, w takes {channels}", x.shape[1]);
        let outputs = &w.shape[0];
        require!("C4", outputs.modulo(&groups).is(0), "{groups} groups do not divide {outputs} outputs");
        if let Some(bias) = operands.get(2) {
            let expected = TensorType::new(x.dtype, vec![outputs.clone()]);
            require!("C6", **bias == expected, "bias must be {expected}, found {bias}");
        }
        let mut dims = vec![x.shape[0].clone(), outputs.clone()];
        for axis in 0..axes {
            let windows = self.window_axis(axis);
            dims.push(windows.count("C5", &x.shape[axis + 2], &w.shape[axis + 2], false)?);
        }
        Ok(vec![TensorType::new(x.dtype, dims)])
    }
}

impl Conv {
    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let (x, w) = (operands[0], operands[1]);
        let types: Vec<_> = operands.iter().map(|literal| literal.ty()).collect();
        let inferred = self
            .infer(&types.iter().collect::<Vec<_>>())
            .map_err(|violation| Fault(violation.to_string()))?;
        let dims = inferred[0].shape.as_static().ok_or_else(|| Fault("an extent is not fixed".into()))?;
        let (input, weight) = (x.to_f64s(), w.to_f64s());
        let bias = operands.get(2).map(|bias| bias.to_f64s());
        let (channels, outputs_per_group) = (w.dims()[1], dims[1] / self.groups);
        let mut results = vec![];
        for_each_index(&dims, |index| {
            let (output, spatial) = (index[1], &index[2..]);
            // Without channels there is nothing to sum, however large the window.
            let spatial = if channels == 0 { &[] } else { spatial };
            let first_channel = output / outputs_per_group.max(1) * channels;
            let taps: Vec<Vec<(usize, usize)>> = (spatial.iter().enumerate())
                .map(|(axis, &number)| {
                    self.window_axis(axis).taps(number, x.dims()[axis + 2], w.dims()[axis + 2])
                })
                .collect();
            let counts: Vec<usize> =
                std::iter::once(channels).chain(taps.iter().map(|axis| axis.len())).collect();
            let mut sum = 0.0;
            for_each_index(&counts, |at| {
                let mut from = vec![index[0], first_channel + at[0]];
                let mut by = vec![output, at[0]];
                for (axis, taps) in taps.iter().enumerate() {
                    let (tap, position) = taps[at[axis + 1]];
                    by.push(tap);
                    from.push(position);
                }
                sum += input[row_major(x.dims(), &from)] * weight[row_major(w.dims(), &by)];
            });
            results.push(Number::Float(sum + bias.as_ref().map_or(0.0, |bias| bias[output])));
        });
        Ok(vec![Literal::from_numbers(x.dtype(), &dims, results)?])
    }
}

/// Derivatives and batching.
impl Conv {
    /// A batch of inputs alone joins their first axis. A batch of weights makes groups.
    fn batch(&self, g: &mut Graph, given: Batched<'_>) -> Result<Vec<Value>, &'static str> {
        let join = |g: &mut Graph, x: Value, axis: usize| {
            let mut dims = g.ty(x).shape.dims().to_vec();
            let pair = dims[axis].clone() * dims[axis + 1].clone();
            dims.splice(axis..axis + 2, [pair]);
            g.reshape(x, dims)
        };
        let split = |g: &mut Graph, y: Value, axis: usize| {
            let Some(ty) = g.try_ty(y) else { return Value::POISON };
            let mut dims = ty.shape.dims().to_vec();
            let rest = dims[axis].floor_div(given.size);
            dims.splice(axis..axis + 1, [given.size.clone(), rest]);
            g.reshape(y, dims)
        };
        if !given.is_batched[1..].contains(&true) && !given.size.is(0) {
            let x = join(g, given.operands[0], 0);
            let y = g.push(self.clone(), &[&[x], &given.operands[1..]].concat());
            return Ok(vec![split(g, y, 0)]);
        }
        let size =
            given.size.as_static().and_then(|size| usize::try_from(size).ok()).filter(|&size| size > 0);
        let size = size.ok_or("a batch of weights needs a fixed extent that is not 0")?;
        let mut all = given.with_batch(g);
        all[0] = g.move_axis(all[0], 0, 1);
        let x = join(g, all[0], 1);
        let rest: Vec<Value> = all[1..].iter().map(|&operand| join(g, operand, 0)).collect();
        let y = g.push(Conv { groups: self.groups * size, ..self.clone() }, &[&[x], &rest[..]].concat());
        let y = split(g, y, 1);
        Ok(vec![g.move_axis(y, 1, 0)])
    }
}

impl Graph {
    /// The derivative by the input, of shape `shape`, of a [`Conv`] with weights `w`, from that by its result:
    /// the transposed convolution, cut to the input.
    #[track_caller]
    pub fn conv2d_backward_input(&mut self, op: &Conv, dy: Value, w: Value, shape: &Shape) -> Value {
        let axes = shape.rank().saturating_sub(2);
        let whole = ConvTranspose2d {
            stride: op.stride.clone(),
            dilation: op.dilation.clone(),
            groups: op.groups,
            ..ConvTranspose2d::plain(axes)
        };
        let mut dx = self.push(whole, &[dy, w]);
        for axis in 2..shape.rank() {
            let Some(found) = self.try_ty(dx).map(|ty| ty.shape[axis].clone()) else { break };
            let start = Dim::from(op.padding_low[axis - 2]);
            let missing = start.clone() + shape[axis].clone() - found.clone();
            dx = self.pad_axis(dx, axis, Dim::from(0), missing.maximum(&Dim::from(0)));
            if !start.is(0) || found != shape[axis] {
                dx = self.narrow(dx, axis, start, shape[axis].clone());
            }
        }
        dx
    }

    /// The derivative by the weights, of shape `shape`, of a [`Conv`] of `x`, from that by its result: a
    /// convolution of the input with it, strides and dilations changing places.
    #[track_caller]
    pub fn conv2d_backward_weight(&mut self, op: &Conv, x: Value, dy: Value, shape: &Shape) -> Value {
        let Some(mut dims) = self.try_ty(x).map(|ty| ty.shape.dims().to_vec()) else { return Value::POISON };
        let rank = dims.len();
        // Channels of a group become the batch; batches of all groups become the channels.
        let (batch, groups) = (dims[0].clone(), Dim::from(op.groups));
        let channels = dims[1].floor_div(&groups);
        dims.splice(1..2, [groups.clone(), channels.clone()]);
        let x = self.reshape(x, dims.clone());
        let x = self.transpose(x, [vec![2, 1, 0], (3..rank + 1).collect()].concat());
        dims.splice(0..3, [channels, groups * batch]);
        let x = self.reshape(x, dims);
        let dy = self.swap_axes(dy, 0, 1);
        let turned = Conv { stride: op.dilation.clone(), dilation: op.stride.clone(), ..op.clone() };
        let mut dw = self.convolve(turned, x, dy, None);
        for axis in 2..rank {
            if self.try_ty(dw).is_some_and(|ty| ty.shape[axis] != shape[axis]) {
                dw = self.narrow(dw, axis, 0, shape[axis].clone());
            }
        }
        self.swap_axes(dw, 0, 1)
    }
}
