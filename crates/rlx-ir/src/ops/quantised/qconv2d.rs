//! `qconv2d`: a convolution of 8-bit integers, summed in `i32`, over one to three spatial axes.

use crate::ops::prelude::*;
use crate::ops::quantisation::{centred, check_codes, check_requantize, requantize};

op! {
    /// `y = saturate(round(mult sum) + y_zero_point)` with `sum = conv(x - x_zero_point, w - w_zero_point) + bias` in
    /// i32, rounding half to even; without `mult` the result is `sum`.
    ///
    /// Attributes and shapes are those of `conv`; what lies outside the input counts as `x_zero_point`. Sums wrap at 32
    /// bits; `mult sum` is computed in f32.
    /// (C1) `x` and `w` are i8 or u8; each zero point has the dtype of its operand and broadcasts to it.
    /// (C2) `x`, `w` and the lists satisfy the constraints of `conv`; the extents of the window are static.
    /// (C3) With `mult` the result is i8 or u8; without it is i32, and there is no `y_zero_point`.
    /// (C4) `bias` (i32), `mult` (f32) and `y_zero_point` (of the result's dtype) are one number or [O].
    /// Source: ONNX QLinearConv and ConvInteger.
    qconv2d: QConv2d(x, w)[x_zero_point, w_zero_point, bias, mult, y_zero_point] -> y {
        /// Distance from one window to the next, per spatial axis.
        stride: Vec<usize>,
        /// Elements before the first, per spatial axis.
        padding_low: Vec<usize>,
        /// Elements after the last, per spatial axis.
        padding_high: Vec<usize>,
        /// Distance between the elements of a window, per spatial axis.
        dilation: Vec<usize>,
        /// Groups of channels that do not mix.
        groups: usize,
        /// Dtype of the result.
        to: DType,
    }
}

impl OpSpec for QConv2d {
    // The windows as columns of a matrix per group, times the weights as rows.
    const MEANING: Meaning<Self> = Meaning::composite(|op, g, operands| {
        let given = |name| op.operand_index(name).map(|index| operands[index]);
        let types: Vec<TensorType> = operands.iter().map(|&operand| g.ty(operand).clone()).collect();
        let Ok(y) = op.infer(&types.iter().collect::<Vec<_>>()) else { return vec![] };
        let (y, weights) = (y[0].shape.dims().to_vec(), types[1].shape.dims().to_vec());
        let x = centred(g, operands[0], given("x_zero_point"));
        let w = centred(g, operands[1], given("w_zero_point"));
        let groups = Dim::from(op.groups);
        let product = |dims: &[Dim]| dims.iter().cloned().fold(Dim::from(1), |a, b| a * b);
        let depth = product(&weights[1..]);
        let columns = op.windows(g, x, &weights[2..], &y);
        let columns = g.reshape(columns, vec![y[0].clone(), groups.clone(), depth.clone(), product(&y[2..])]);
        let rows = g.reshape(w, vec![groups.clone(), y[1].floor_div(&groups), depth]);
        let sum = g.mm(rows, columns);
        let sum = g.reshape(sum, y.clone());
        let rest = ["bias", "mult", "y_zero_point"].map(|name| {
            given(name).map(|value| {
                if g.try_ty(value).is_none_or(|ty| ty.rank() == 0) {
                    return value;
                }
                let mut dims = vec![Dim::from(1); y.len() - 1];
                dims[0] = g.ty(value).shape[0].clone();
                g.reshape(value, dims)
            })
        });
        vec![requantize(g, sum, rest, op.to)]
    });
    const VJP: Vjp<Self> = Vjp::None("it computes with codes");
    const JVP: Jvp<Self> = Jvp::None("it computes with codes");
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Exact;
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "i8[1, 2, 4, 5], i8[3, 2, 3, 2] {stride = [1, 1], padding_low = [0, 0], padding_high = [0, 0], \
         dilation = [1, 1], groups = 1, to = i32}",
        "u8[2, 3, 5, 6], i8[4, 3, 3, 3], u8[], i32[4], f32[] in [0.01, 0.2), u8[] \
         {stride = [2, 1], padding_low = [1, 0], padding_high = [2, 1], dilation = [1, 2], to = u8, \
         x_zero_point = true, bias = true, mult = true, y_zero_point = true}",
        "u8[1, 4, 5, 6], u8[6, 2, 3, 3], u8[], u8[6, 1, 1, 1], f32[6] in [0.01, 0.2), i8[] \
         {stride = [2, 1], padding_low = [1, 0], padding_high = [2, 1], dilation = [1, 2], groups = 2, \
         to = i8, x_zero_point = true, w_zero_point = true, mult = true, y_zero_point = true}",
        "i8[2, 3, 6], i8[4, 3, 1], i8[], i32[4], f32[4] in [0.01, 0.2) \
         {stride = [1], padding_low = [0], padding_high = [0], dilation = [1], to = i8, \
         w_zero_point = true, bias = true, mult = true}",
        "i8[1, 1, 2, 3, 2], i8[1, 1, 2, 2, 1] {stride = [1, 1, 1], padding_low = [0, 0, 0], \
         padding_high = [0, 0, 0], dilation = [1, 1, 1]}",
        "i8[0, 2, 5], i8[3, 2, 3] {stride = [1], padding_low = [0], padding_high = [0], dilation = [1]}",
        "i8[1, 0, 5], i8[2, 0, 3], i32[2] {stride = [1], padding_low = [0], padding_high = [0], \
         dilation = [1], bias = true}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let given = |name| self.operand_index(name).map(|index| operands[index]);
        check_codes("C1", [operands[0], operands[1]], [given("x_zero_point"), given("w_zero_point")])?;
        let [x, w] = [0, 1].map(|index: usize| TensorType::new(DType::F32, operands[index].shape.clone()));
        let relabel = |violation: Violation| Violation { constraint: "C2", ..violation };
        let y = self.convolution().infer(&[&x, &w]).map_err(relabel)?.remove(0);
        let fixed = w.shape.dims()[2..].iter().all(|dim| dim.as_static().is_some());
        require!("C2", fixed, "the extents of the window of {} are not static", operands[1]);
        // Numbers per output channel stand on the last axis of this type.
        let channels = TensorType::new(DType::I32, vec![y.shape[1].clone()]);
        let rest = [given("bias"), given("mult"), given("y_zero_point")];
        check_requantize(["C3", "C4"], &channels, rest, self.to)?;
        Ok(vec![TensorType::new(self.to, y.shape)])
    }
}

impl QConv2d {
    fn convolution(&self) -> Conv {
        Conv {
            stride: self.stride.clone(),
            padding_low: self.padding_low.clone(),
            padding_high: self.padding_high.clone(),
            dilation: self.dilation.clone(),
            groups: self.groups,
            bias: false,
        }
    }

    /// `[N, C, window, windows..]`: for each element of the window, that of every window.
    fn windows(&self, g: &mut Graph, mut x: Value, window: &[Dim], y: &[Dim]) -> Value {
        for (axis, (&low, &high)) in self.padding_low.iter().zip(&self.padding_high).enumerate() {
            x = g.pad_axis(x, axis + 2, Dim::from(low), Dim::from(high));
        }
        let extents: Vec<usize> = window
            .iter()
            .filter_map(|dim| dim.as_static())
            .filter_map(|extent| usize::try_from(extent).ok())
            .collect();
        let mut parts = vec![];
        for_each_index(&extents, |tap| {
            let part = Slice {
                axes: (2..y.len()).collect(),
                starts: tap
                    .iter()
                    .zip(&self.dilation)
                    .map(|(tap, dilation)| Dim::from(tap * dilation))
                    .collect(),
                steps: self.stride.iter().map(|&stride| stride as i64).collect(),
                lens: y[2..].to_vec(),
            };
            let part = g.push(part, &[x]);
            parts.push(g.unsqueeze(part, 2));
        });
        g.concat(&parts, 2usize)
    }
}
