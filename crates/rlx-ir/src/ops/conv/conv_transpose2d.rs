//! `conv_transpose2d`: transposed convolution over one, two or three spatial axes.

use crate::ops::prelude::*;
use crate::ops::window::WindowAttributes;

op! {
    /// The adjoint of `conv` plus a bias: each element of `x` adds its multiple of the window to `y`, at
    /// `position stride + t dilation - padding_low`; what falls outside `y` is dropped.
    ///
    /// `x[N, C, spatial..]`, `w[C, O / groups, window..]`, `bias[O]` give `y[N, O, out..]` with, along each axis,
    /// `out = (extent - 1) stride + dilation (window - 1) + 1 + output_padding - padding_low - padding_high`
    /// (as in ONNX and PyTorch). The 2d of the name is kept for what images call it; 1-D and 3-D are the same op.
    ///
    /// (C1) All operands have one float dtype.
    /// (C2) `x` and `w` have one rank of 3, 4 or 5.
    /// (C3) The lists have one entry per spatial axis; strides and dilations are at least 1.
    /// (C4) `groups` is at least 1 and divides `C`, which is also the first extent of `w`.
    /// (C5) Window extents are static and not 0, input extents are not 0, result extents not negative;
    ///      `dilation (window - 1) + output_padding` fits 31 bits.
    /// (C6) `bias` is `[O]`.
    /// Half-precision products accumulate in f32.
    conv_transpose2d: ConvTranspose2d(x, w)[bias] -> y {
        /// Distance in `y` from one element of `x` to the next, per spatial axis.
        stride: Vec<usize>,
        /// Elements cut at the start, per spatial axis.
        padding_low: Vec<usize>,
        /// Elements cut at the end, per spatial axis.
        padding_high: Vec<usize>,
        /// Elements added at the end, per spatial axis.
        output_padding: Vec<usize>,
        /// Distance between the elements of a window, per spatial axis.
        dilation: Vec<usize>,
        /// Groups of channels that do not mix.
        groups: usize,
    }
}

impl ConvTranspose2d {
    /// Stride 1, no padding, no dilation, one group, no bias, over `axes` spatial axes.
    pub fn plain(axes: usize) -> ConvTranspose2d {
        let (ones, zeros) = (vec![1; axes], vec![0; axes]);
        ConvTranspose2d {
            stride: ones.clone(),
            padding_low: zeros.clone(),
            padding_high: zeros.clone(),
            output_padding: zeros,
            dilation: ones,
            groups: 1,
            bias: false,
        }
    }

    /// Extent of `y` along `axis` before anything is cut.
    fn uncut(&self, axis: usize, extent: &Dim, window: &Dim) -> Dim {
        let one = || Dim::from(1);
        (extent.clone() - one()) * Dim::from(self.stride[axis])
            + (window.clone() - one()) * Dim::from(self.dilation[axis])
            + one()
            + Dim::from(self.output_padding[axis])
    }
}

impl OpSpec for ConvTranspose2d {
    const MEANING: Meaning<Self> = Meaning::composite_with_eval(Self::decompose, Self::eval);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 256 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[2, 3, 4], f32[3, 2, 3] {stride = [1], padding_low = [0], padding_high = [0], \
         output_padding = [0], dilation = [1], groups = 1}",
        "f32[1, 2, 3, 2], f32[2, 3, 2, 2] {stride = [1, 1], padding_low = [0, 0], padding_high = [0, 0], \
         output_padding = [0, 0], dilation = [1, 1]}",
        "f32[1, 1, 2, 2, 2], f32[1, 2, 2, 1, 2] {stride = [2, 2, 2], padding_low = [0, 0, 0], \
         padding_high = [0, 0, 0], output_padding = [0, 0, 0], dilation = [1, 1, 1]}",
        "f32[1, 2, 3, 2], f32[2, 2, 3, 3], f32[2] \
         {stride = [2, 3], padding_low = [1, 0], padding_high = [0, 2], output_padding = [1, 2], \
         dilation = [1, 2], bias = true}",
        "f32[1, 4, 2, 2], f32[4, 1, 2, 2], f32[2] \
         {stride = [2, 3], padding_low = [1, 0], padding_high = [0, 2], output_padding = [1, 2], \
         dilation = [1, 2], groups = 2, bias = true}",
        "bf16[2, 4, 2, 2], bf16[4, 3, 2, 1], bf16[6] \
         {stride = [2, 3], padding_low = [1, 0], padding_high = [0, 2], output_padding = [1, 2], \
         dilation = [1, 2], groups = 2, bias = true}",
        "f64[1, 1, 1], f64[1, 1, 1] {stride = [2]}",
        "f32[0, 2, 3], f32[2, 1, 2] {stride = [2]}",
        "f16[1, 0, 3], f16[0, 2, 2], f16[2] {bias = true}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (x, w) = (operands[0], operands[1]);
        same_dtype("C1", operands)?;
        let legal = x.dtype.is_float() && !x.dtype.is_storage_only();
        require!("C1", legal, "conv_transpose2d does not take {}", x.dtype);
        let legal = x.rank() == w.rank() && (3..=5).contains(&x.rank());
        require!("C2", legal, "x and w must have one rank of 3, 4 or 5, found {x} and {w}");
        let axes = x.rank() - 2;
        self.check_lists(axes)?;
        let groups = Dim::from(self.groups);
        require!("C4", self.groups > 0, "groups must be at least 1");
        let channels = &x.shape[1];
        require!("C4", *channels == w.shape[0], "x has {channels} channels, w takes {}", w.shape[0]);
        require!("C4", channels.modulo(&groups).is(0), "{groups} groups do not divide {channels} channels");
        let outputs = w.shape[1].clone() * groups;
        if let Some(bias) = operands.get(2) {
            let expected = TensorType::new(x.dtype, vec![outputs.clone()]);
            require!("C6", **bias == expected, "bias must be {expected}, found {bias}");
        }
        let mut dims = vec![x.shape[0].clone(), outputs];
        for axis in 0..axes {
            let (extent, window) = (&x.shape[axis + 2], &w.shape[axis + 2]);
            let known = window.as_static().is_some_and(|window| (1..=i64::from(i32::MAX)).contains(&window));
            require!("C5", known, "window extent {window} must be static and at least 1");
            let reach = (window.clone() - Dim::from(1)) * Dim::from(self.dilation[axis])
                + Dim::from(self.output_padding[axis]);
            let known = reach.as_static().is_some_and(|reach| reach <= i64::from(i32::MAX));
            require!("C5", known, "a window and its output padding reach {reach} elements, over 31 bits");
            require!("C5", !extent.is(0), "spatial extents of x must not be 0, found {x}");
            let cut = Dim::from(self.padding_low[axis]) + Dim::from(self.padding_high[axis]);
            let out = self.uncut(axis, extent, window) - cut;
            let legal = out.as_static().is_none_or(|out| out >= 0);
            require!("C5", legal, "the padding of spatial axis {axis} cuts more than there is: extent {out}");
            dims.push(out);
        }
        Ok(vec![TensorType::new(x.dtype, dims)])
    }
}

impl ConvTranspose2d {
    /// The lists have one legal entry per spatial axis.
    fn check_lists(&self, axes: usize) -> Result<(), Violation> {
        let added = self.output_padding.len() == axes
            && self.output_padding.iter().all(|&added| i32::try_from(added).is_ok());
        require!(
            "C3",
            added,
            "output_padding needs {axes} entries of 31 bits, found {:?}",
            self.output_padding
        );
        WindowAttributes {
            stride: &self.stride,
            padding_low: &self.padding_low,
            padding_high: &self.padding_high,
            dilation: &self.dilation,
        }
        .check("C3", axes)
    }

    fn eval(&self, operands: &[&Literal]) -> Evaluated {
        let (x, w) = (operands[0], operands[1]);
        let types: Vec<_> = operands.iter().map(|literal| literal.ty()).collect();
        let inferred = self
            .infer(&types.iter().collect::<Vec<_>>())
            .map_err(|violation| Fault(violation.to_string()))?;
        let dims = inferred[0].shape.as_static().ok_or_else(|| Fault("an extent is not fixed".into()))?;
        let (input, weight) = (x.to_f64s(), w.to_f64s());
        let bias = operands.get(2).map(|bias| bias.to_f64s());
        let mut sums = vec![];
        for_each_index(&dims, |index| sums.push(bias.as_ref().map_or(0.0, |bias| bias[index[1]])));
        let (outputs, per_group) = (w.dims()[1], x.dims()[1] / self.groups);
        for_each_index(x.dims(), |from| {
            let value = input[row_major(x.dims(), from)];
            for_each_index(&w.dims()[1..], |by| {
                let mut to = vec![from[0], from[1] / per_group.max(1) * outputs + by[0]];
                for (axis, &tap) in by[1..].iter().enumerate() {
                    let position = from[axis + 2] * self.stride[axis] + tap * self.dilation[axis];
                    match position.checked_sub(self.padding_low[axis]).filter(|&at| at < dims[axis + 2]) {
                        Some(at) => to.push(at),
                        None => return,
                    }
                }
                let at_weight = [&from[1..2], by].concat();
                sums[row_major(&dims, &to)] += value * weight[row_major(w.dims(), &at_weight)];
            });
        });
        Ok(vec![Literal::from_numbers(x.dtype(), &dims, sums.into_iter().map(Number::Float))?])
    }

    /// A convolution with the mirrored window over `x` with zeros between its elements, then the cut.
    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let (x_ty, w_ty) = (g.ty(operands[0]).clone(), g.ty(operands[1]).clone());
        let axes = x_ty.rank() - 2;
        let mut x = operands[0];
        for axis in 0..axes {
            x = self.spread(g, x, axis + 2, self.stride[axis]);
        }
        let w = self.mirrored(g, operands[1], &w_ty);
        let reach: Vec<usize> = (0..axes)
            .map(|axis| {
                let window = w_ty.shape[axis + 2].as_static().and_then(|window| usize::try_from(window).ok());
                (window.expect("inference accepted the window") - 1) * self.dilation[axis]
            })
            .collect();
        let conv = Conv {
            stride: vec![1; axes],
            padding_high: (0..axes).map(|axis| reach[axis] + self.output_padding[axis]).collect(),
            padding_low: reach,
            dilation: self.dilation.clone(),
            groups: self.groups,
            bias: false,
        };
        let mut y = g.convolve(conv, x, w, operands.get(2).copied());
        for axis in 0..axes {
            let cut = self.padding_low[axis] + self.padding_high[axis];
            if cut > 0 {
                let Some(extent) = g.try_ty(y).map(|ty| ty.shape[axis + 2].clone()) else { break };
                let len = extent - Dim::from(cut);
                y = g.narrow(y, axis + 2, self.padding_low[axis], len);
            }
        }
        vec![y]
    }

    /// `x` with `stride - 1` zeros between its elements along `axis`.
    fn spread(&self, g: &mut Graph, x: Value, axis: usize, stride: usize) -> Value {
        if stride == 1 {
            return x;
        }
        let Some(dims) = g.try_ty(x).map(|ty| ty.shape.dims().to_vec()) else { return Value::POISON };
        let mut single = dims.clone();
        single.insert(axis + 1, Dim::from(1));
        let x = g.reshape(x, single);
        let zeros = vec![Dim::from(0); dims.len() + 1];
        let mut high = zeros.clone();
        high[axis + 1] = Dim::from(stride - 1);
        let x = g.pad(x, None, zeros, high, PadMode::Constant);
        let mut whole = dims.clone();
        whole[axis] = dims[axis].clone() * Dim::from(stride);
        let x = g.reshape(x, whole.clone());
        g.narrow(x, axis, 0, whole[axis].clone() - Dim::from(stride - 1))
    }

    /// `w[C, O / groups, ..]` as `[O, C / groups, ..]` with its windows mirrored.
    fn mirrored(&self, g: &mut Graph, w: Value, ty: &TensorType) -> Value {
        let mut dims = ty.shape.dims().to_vec();
        let (groups, spatial) = (Dim::from(self.groups), dims.split_off(2));
        let (inputs, outputs) = (dims[0].floor_div(&groups), dims[1].clone());
        let rank = spatial.len() + 2;
        let w = g.reverse(w, (2..rank).collect::<Vec<_>>());
        let grouped = [vec![groups.clone(), inputs.clone(), outputs.clone()], spatial.clone()].concat();
        let w = g.reshape(w, grouped);
        let w = g.transpose(w, [vec![0, 2, 1], (3..rank + 1).collect()].concat());
        g.reshape(w, [vec![groups * outputs, inputs], spatial].concat())
    }
}
