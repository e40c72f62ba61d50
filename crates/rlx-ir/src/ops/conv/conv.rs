//! `conv`: convolution (cross-correlation) over one, two or three spatial axes.

use crate::accuracy::Accuracy;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::{Graph, Value};
use crate::literal::Literal;
use crate::number::Number;
use crate::op::{Evaluated, Fault, Inferred, Meaning, OpSpec, Sample};
use crate::ops::window::{WindowAttributes, WindowAxis};
use crate::ops::{for_each_index, row_major, same_dtype};
use crate::shape::TensorType;
use crate::{op, require};

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

    fn accuracy(&self) -> Accuracy {
        Accuracy::Accumulated { terms: 256 }
    }

    fn samples() -> Vec<Sample<Self>> {
        samples()
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
        Literal::from_numbers(x.dtype(), &dims, results)
            .map(|literal| vec![literal])
            .map_err(|error| Fault(error.to_string()))
    }
}

fn samples() -> Vec<Sample<Conv>> {
    let sample = |op: Conv, x: &[usize], w: &[usize], dtype| {
        let mut operands = vec![TensorType::new(dtype, x), TensorType::new(dtype, w)];
        if op.bias {
            operands.push(TensorType::new(dtype, [w[0]]));
        }
        Sample::new(op, operands)
    };
    let plain = Conv::plain;
    let f32 = DType::F32;
    let strided = Conv {
        stride: vec![2, 1],
        padding_low: vec![1, 0],
        padding_high: vec![2, 1],
        dilation: vec![1, 2],
        bias: true,
        ..plain(2)
    };
    vec![
        sample(plain(1), &[2, 3, 6], &[4, 3, 3], f32),
        sample(plain(2), &[1, 2, 4, 5], &[3, 2, 3, 2], f32),
        sample(plain(3), &[1, 2, 3, 3, 3], &[2, 2, 2, 2, 2], f32),
        sample(Conv { bias: true, ..plain(1) }, &[2, 2, 5], &[3, 2, 1], DType::BF16),
        sample(strided.clone(), &[2, 3, 5, 6], &[2, 3, 3, 3], f32),
        sample(Conv { groups: 2, ..strided.clone() }, &[1, 4, 5, 6], &[6, 2, 3, 3], f32),
        sample(Conv { groups: 3, ..plain(2) }, &[1, 3, 4, 4], &[3, 1, 3, 3], DType::F16),
        sample(strided, &[1, 1, 2, 3], &[1, 1, 1, 1], DType::F64),
        sample(plain(2), &[1, 1, 1, 1], &[1, 1, 1, 1], f32),
        sample(plain(1), &[0, 2, 5], &[3, 2, 3], f32),
        sample(plain(1), &[1, 2, 5], &[0, 2, 3], f32),
        sample(Conv { bias: true, ..plain(1) }, &[1, 0, 5], &[2, 0, 3], f32),
        sample(Conv { padding_low: vec![2], padding_high: vec![2], ..plain(1) }, &[1, 1, 0], &[1, 1, 3], f32),
    ]
}
