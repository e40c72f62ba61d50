//! Random graphs of one op through the CPU executor, against the reference
//! interpreter: odd extents, operands that are transposed, cut out, repeated
//! or reversed views, every dtype of the kernels, NaN and infinities, empty
//! tensors, at every instruction set of this machine, on one and two threads.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use rlx_ir::accuracy::Accuracy;
use rlx_ir::ops::*;
use rlx_ir::{DType, Literal, Op, Value};
use support::{Case, assert_agreement, extent, extents, long_extent, pick, stretch};

const FLOATS: [DType; 4] = [DType::F32, DType::BF16, DType::F16, DType::F64];
const NUMBERS: [DType; 12] = [
    DType::F32,
    DType::BF16,
    DType::F16,
    DType::F64,
    DType::I8,
    DType::U8,
    DType::I16,
    DType::U16,
    DType::I32,
    DType::U32,
    DType::I64,
    DType::U64,
];

#[test]
fn matrix_products() {
    assert_agreement(1, 60, |case| {
        let dtype = pick(case, &NUMBERS);
        let [m, n, k] = [long_extent(case, 70, 130), long_extent(case, 70, 130), long_extent(case, 70, 1100)];
        let op = MatMul { transpose_a: case.coin(), transpose_b: case.coin() };
        let lead = extents(case, 2, 3);
        let matrix =
            |rows, columns, transpose: bool| if transpose { [columns, rows] } else { [rows, columns] };
        let mut a = lead.clone();
        a.extend(matrix(m, k, op.transpose_a));
        let mut b = if case.coin() { lead } else { vec![] };
        b.extend(matrix(k, n, op.transpose_b));
        let a = case.special("a", dtype, &a);
        let b = if case.coin() { case.weight("b", dtype, &b) } else { case.special("b", dtype, &b) };
        let product = case.graph.push(op, &[a, b]);
        let y = epilogue(case, product);
        case.output("y", y);
        case.accuracy = Accuracy::Accumulated { terms: 256 };
    });
}

/// Sometimes an elementwise tail of a float product.
fn epilogue(case: &mut Case, product: Value) -> Value {
    let ty = case.graph.ty(product).clone();
    if !ty.dtype.is_float() || case.coin() {
        return product;
    }
    let dims = ty.shape.as_static().unwrap();
    case.rounded = Some(ty.dtype);
    let bias = case.operand("bias", ty.dtype, &dims[dims.len() - 1..]);
    let y = case.graph.add(product, bias);
    match case.below(4) {
        0 => case.graph.push(Activation::of(ActivationKind::Tanh), &[y]),
        1 => case.graph.cast(y, DType::F32),
        2 => {
            let residual = case.operand("residual", ty.dtype, &dims);
            case.graph.add(y, residual)
        }
        _ => y,
    }
}

#[test]
fn bits_of_widened_floats() {
    assert_agreement(16, 20, |case| {
        let narrow = pick(case, &[DType::BF16, DType::F16, DType::F8E4M3]);
        let dims = extents(case, 2, 40);
        let x = case.operand("x", narrow, &dims);
        let wide = case.graph.cast(x, DType::F32);
        let bits = case.graph.bitcast(wide, DType::I32);
        case.output("bits", bits);
        let y = case.graph.add(wide, wide);
        case.output("y", y);
    });
}

#[test]
fn products_of_f32_and_widened_halves() {
    assert_agreement(2, 20, |case| {
        let narrow = pick(case, &[DType::BF16, DType::F16]);
        let [m, n, k] = [extent(case, 40), extent(case, 40), long_extent(case, 40, 600)];
        let a = case.operand("a", DType::F32, &[m, k]);
        let b = case.operand("b", narrow, &[k, n]);
        let b = case.graph.cast(b, DType::F32);
        let y = case.graph.push(MatMul { transpose_a: false, transpose_b: false }, &[a, b]);
        case.output("y", y);
        case.accuracy = Accuracy::Accumulated { terms: 256 };
    });
}

#[test]
fn rows() {
    assert_agreement(3, 60, |case| {
        let dtype = pick(case, &FLOATS);
        let mut dims = extents(case, 4, 40);
        stretch(case, &mut dims, 5000);
        let axis = dims.len().saturating_sub(1);
        if dims.is_empty() {
            return;
        }
        let x = case.special("x", dtype, &dims);
        let (gamma, beta) = (case.coin(), case.coin());
        let mut operands = vec![x];
        let eps = rlx_ir::attr::Real(1e-5);
        let op: Op = match case.below(4) {
            0 => Softmax { axis }.into(),
            1 => LogSoftmax { axis }.into(),
            2 => LayerNorm { axes: vec![axis], eps, gamma, beta }.into(),
            _ => RmsNorm { axes: vec![axis], eps, unit_offset: gamma && case.coin(), gamma, beta: false }
                .into(),
        };
        for name in op.optional_given() {
            operands.push(case.operand(name, dtype, &dims[axis..]));
        }
        case.accuracy = Accuracy::Accumulated { terms: 256 };
        let y = case.graph.push(op, &operands);
        case.output("y", y);
    });
}

#[test]
fn reductions() {
    assert_agreement(4, 80, |case| {
        let kind = pick(case, ReduceKind::ALL);
        let dtype = match kind {
            ReduceKind::Any | ReduceKind::All => DType::Bool,
            ReduceKind::Mean => pick(case, &FLOATS),
            _ => pick(case, &NUMBERS),
        };
        let mut dims = extents(case, 4, if kind == ReduceKind::Prod { 6 } else { 40 });
        if kind != ReduceKind::Prod {
            stretch(case, &mut dims, 9000);
        }
        let axes: Vec<usize> = (0..dims.len()).filter(|_| case.coin()).collect();
        let x = case.special("x", dtype, &dims);
        let keep_dims = case.coin();
        let y = case.graph.push(Reduce { kind, axes, keep_dims }, &[x]);
        case.output("y", y);
        case.accuracy = Accuracy::Accumulated { terms: 1024 };
    });
}

#[test]
fn elementwise_regions() {
    assert_agreement(5, 120, |case| {
        let dtype = pick(case, &NUMBERS);
        let dims = if case.below(4) == 0 { vec![extent(case, 3), 1500] } else { extents(case, 4, 40) };
        let mut values = vec![case.special("x", dtype, &dims), case.special("y", dtype, &dims)];
        let row = case.operand("row", dtype, &dims[dims.len().saturating_sub(1)..]);
        values.push(row);
        for _ in 0..6 {
            let (a, b) = (case.below(values.len()), case.below(values.len()));
            let (a, b) = (values[a], values[b]);
            let kind = pick(case, &[BinaryKind::Add, BinaryKind::Sub, BinaryKind::Mul, BinaryKind::Max]);
            let sum = case.graph.push(Binary { kind }, &[a, b]);
            values.push(sum);
            let kind = pick(
                case,
                &[
                    ActivationKind::Gelu,
                    ActivationKind::Silu,
                    ActivationKind::Sigmoid,
                    ActivationKind::GeluApprox,
                    ActivationKind::Relu,
                ],
            );
            if dtype.is_float() && case.coin() {
                let y = case.graph.push(Activation::of(kind), &[sum]);
                values.push(y);
            }
        }
        let last = *values.last().unwrap();
        case.output("last", last);
        let to = pick(case, &NUMBERS);
        // Out of an integer's range, a conversion of what was computed wide and of what was
        // rounded may differ: only floats are compared.
        if to.is_float() && dtype != DType::U64 {
            let y = case.graph.cast(last, to);
            case.output("cast", y);
        }
        case.accuracy = Accuracy::Accumulated { terms: 64 };
        case.rounded = dtype.is_float().then_some(dtype);
    });
}

#[test]
fn copies_of_views() {
    assert_agreement(6, 80, |case| {
        let dtype = pick(case, &[DType::F32, DType::BF16, DType::I8, DType::I64, DType::C64, DType::Bool]);
        let mut dims = extents(case, 4, 70);
        stretch(case, &mut dims, 400);
        let x = case.operand("x", dtype, &dims);
        let mut order: Vec<usize> = (0..dims.len()).collect();
        for index in (1..order.len()).rev() {
            order.swap(index, case.below(index + 1));
        }
        let y = case.graph.transpose(x, order);
        case.output("y", y);
    });
}

#[test]
fn best_positions_and_sorts() {
    assert_agreement(7, 60, |case| {
        let dtype = pick(case, &NUMBERS);
        let mut dims = extents(case, 3, 60);
        stretch(case, &mut dims, 3000);
        if dims.is_empty() {
            return;
        }
        let axis = case.below(dims.len());
        let x = case.special("x", dtype, &dims);
        let to = pick(case, &[DType::I32, DType::I64, DType::U32]);
        if dims[axis] > 0 && case.coin() {
            let kind = pick(case, ArgReduceKind::ALL);
            let op = ArgReduce { kind, axis, keep_dims: case.coin(), select_last: case.coin(), dtype: to };
            let y = case.graph.push(op, &[x]);
            case.output("y", y);
            return;
        }
        let k = if case.coin() { case.below(20).min(dims[axis]) } else { case.below(dims[axis] + 1) };
        let op = TopK { k: k.into(), axis, largest: case.coin(), sorted: case.coin(), dtype: to };
        let results = case.graph.push_all(op, &[x]);
        case.output("values", results[0]);
        case.output("indices", results[1]);
    });
}

#[test]
fn running_sums() {
    assert_agreement(8, 60, |case| {
        let kind = case.below(5);
        let dtype = if kind == 4 { pick(case, &FLOATS) } else { pick(case, &NUMBERS) };
        let mut dims = extents(case, 3, 40);
        if kind != 1 {
            stretch(case, &mut dims, 300);
        }
        if dims.is_empty() {
            return;
        }
        let (axis, exclusive, reverse) = (case.below(dims.len()), case.coin(), case.coin());
        let x = case.special("x", dtype, &dims);
        let op: Op = match kind {
            0 => Cumsum { axis, exclusive, reverse }.into(),
            1 => CumProd { axis, exclusive, reverse }.into(),
            2 => CumMax { axis, exclusive, reverse }.into(),
            3 => CumMin { axis, exclusive, reverse }.into(),
            _ => CumLogSumExp { axis, exclusive, reverse }.into(),
        };
        let y = case.graph.push(op, &[x]);
        case.output("y", y);
        case.accuracy = Accuracy::Accumulated { terms: 64 };
    });
}

#[test]
fn gathers() {
    assert_agreement(9, 60, |case| {
        let dtype = pick(case, &[DType::F32, DType::BF16, DType::I64, DType::Bool, DType::C64]);
        let mut dims = extents(case, 3, 12);
        dims.push(extent(case, 12));
        let axis = case.below(dims.len());
        dims[axis] = dims[axis].max(1);
        let table = case.operand("table", dtype, &dims);
        let index = pick(case, &[DType::I32, DType::I64, DType::U32]);
        let y = match case.below(4) {
            0 => {
                let names = extents(case, 2, 6);
                let indices = case.indices("i", index, &names, dims[axis]);
                case.graph.push(Gather { axis }, &[table, indices])
            }
            1 => {
                let batch_dims = case.below(dims.len());
                let depth = case.below(dims.len() - batch_dims + 1);
                if dims[batch_dims..batch_dims + depth].contains(&0) {
                    return;
                }
                let bound = dims[batch_dims..batch_dims + depth].iter().min().copied().unwrap_or(1);
                let mut names = dims[..batch_dims].to_vec();
                names.extend(extents(case, 2, 6));
                names.push(depth);
                let indices = case.indices("i", index, &names, bound);
                case.graph.push(GatherNd { batch_dims }, &[table, indices])
            }
            2 => {
                let mut names: Vec<usize> = dims.iter().map(|&dim| case.below(dim + 1)).collect();
                names[axis] = extent(case, 9);
                let indices = case.indices("i", index, &names, dims[axis]);
                case.graph.push(GatherElements { axis }, &[table, indices])
            }
            _ => {
                let axes: Vec<usize> = (0..dims.len()).filter(|_| case.coin()).collect();
                let sizes: Vec<usize> = axes.iter().map(|&axis| case.below(dims[axis] + 1)).collect();
                let room = axes.iter().zip(&sizes).map(|(&axis, &size)| dims[axis] - size + 1).min();
                let starts = case.indices("i", index, &[axes.len()], room.unwrap_or(1));
                let sizes = sizes.into_iter().map(Into::into).collect();
                case.graph.push(DynamicSlice { axes, sizes }, &[table, starts])
            }
        };
        case.output("y", y);
    });
}

#[test]
fn scatters() {
    assert_agreement(10, 80, |case| {
        let dtype = pick(case, &[DType::F32, DType::BF16, DType::F64, DType::I64, DType::U8, DType::C64]);
        let mut dims = extents(case, 3, 8);
        dims.push(extent(case, 8));
        let axis = case.below(dims.len());
        dims[axis] = dims[axis].max(1);
        let base = case.operand("base", dtype, &dims);
        let index = pick(case, &[DType::I32, DType::I64, DType::U32]);
        let kinds: &[ScatterKind] = match dtype {
            DType::C64 => &[ScatterKind::None, ScatterKind::Add],
            _ => ScatterKind::ALL,
        };
        let kind = pick(case, kinds);
        let y = match case.below(5) {
            0 => {
                let names = extents(case, 2, 5);
                let indices = case.indices("i", index, &names, dims[axis]);
                let updates = [&dims[..axis], &names[..], &dims[axis + 1..]].concat();
                let updates = case.operand("u", dtype, &updates);
                case.graph.push(ScatterAdd { axis }, &[base, indices, updates])
            }
            1 => {
                let depth = case.below(dims.len() + 1);
                if dims[..depth].contains(&0) {
                    return;
                }
                let mut names = extents(case, 2, 5);
                let updates = [&names[..], &dims[depth..]].concat();
                names.push(depth);
                let bound = dims[..depth].iter().min().copied().unwrap_or(1);
                let indices = case.indices("i", index, &names, bound);
                let updates = case.operand("u", dtype, &updates);
                case.graph.push(ScatterNd { kind }, &[base, indices, updates])
            }
            2 => {
                let mut names: Vec<usize> = dims.iter().map(|&dim| case.below(dim + 1)).collect();
                names[axis] = extent(case, 9);
                let indices = case.indices("i", index, &names, dims[axis]);
                let updates = case.operand("u", dtype, &names);
                case.graph.push(ScatterElements { axis, kind }, &[base, indices, updates])
            }
            3 => {
                let axes: Vec<usize> = (0..dims.len()).filter(|at| *at == axis || case.coin()).collect();
                let mut window = dims.clone();
                axes.iter().for_each(|&axis| window[axis] = case.below(dims[axis] + 1));
                let room = axes.iter().map(|&axis| dims[axis] - window[axis] + 1).min();
                let starts = case.indices("i", index, &[axes.len()], room.unwrap_or(1));
                let update = case.operand("u", dtype, &window);
                case.graph.push(DynamicUpdateSlice { axes }, &[base, update, starts])
            }
            _ if axis > 0 => {
                let mut window = dims.clone();
                window[axis] = case.below(dims[axis] + 1);
                let positions = case.indices("i", index, &dims[..1], dims[axis] - window[axis] + 1);
                let update = case.operand("u", dtype, &window);
                case.graph.push(KvAppend { axis }, &[base, update, positions])
            }
            _ => return,
        };
        case.output("y", y);
        case.accuracy = Accuracy::Accumulated { terms: 64 };
    });
}

#[test]
fn rotations() {
    assert_agreement(11, 40, |case| {
        let dtype = pick(case, &FLOATS);
        let (head_dim, heads) = (1 + case.below(20), 1 + case.below(3));
        let n_rot = 2 * case.below(head_dim / 2 + 1);
        let mut dims = extents(case, 3, 6);
        dims.push(1 + case.below(6));
        let axis = case.below(dims.len());
        let sequence = dims[axis];
        dims.push(head_dim * heads);
        let x = case.operand("x", dtype, &dims);
        let batched = axis > 0 && case.coin();
        let positions = case.coin();
        let lead = if batched { vec![dims[0], sequence] } else { vec![sequence] };
        let mut table = if positions { vec![7] } else { lead.clone() };
        table.push(n_rot / 2);
        let of = if case.coin() { DType::F32 } else { dtype };
        let mut operands = vec![x, case.operand("cos", of, &table), case.operand("sin", of, &table)];
        if positions {
            operands.push(case.indices("p", DType::I32, &lead, 7));
        }
        let style = pick(case, RopeStyle::ALL);
        let y = case.graph.push(Rope { axis, head_dim, n_rot, style, positions }, &operands);
        case.output("y", y);
        case.accuracy = Accuracy::Accumulated { terms: 64 };
        case.rounded = Some(dtype);
    });
}

#[test]
fn attentions() {
    assert_agreement(12, 60, |case| {
        let dtype = pick(case, &[DType::F32, DType::BF16, DType::F16]);
        let layout = pick(case, AttentionLayout::ALL);
        let [batch, heads, group] = [extent(case, 3), 1 + case.below(3), 1 + case.below(3)];
        let [queries, keys] = [long_extent(case, 20, 70), long_extent(case, 40, 300)];
        let [depth, value_depth] = [24, 24].map(|usual| long_extent(case, usual, 64).max(1));
        let dims = |heads: usize, length: usize, depth: usize| match layout {
            AttentionLayout::Bhsd => vec![batch, heads, length, depth],
            AttentionLayout::Bshd => vec![batch, length, heads, depth],
            AttentionLayout::Packed => vec![batch, length, heads * depth],
        };
        let mut operands = vec![
            case.operand("q", dtype, &dims(heads * group, queries, depth)),
            case.operand("k", dtype, &dims(heads, keys, depth)),
            case.operand("v", dtype, &dims(heads, keys, value_depth)),
        ];
        let mask_kind = pick(case, MaskKind::ALL);
        let mask = match mask_kind {
            MaskKind::Custom => Some(DType::Bool),
            MaskKind::Bias => Some(dtype),
            _ => None,
        };
        if let Some(mask) = mask {
            let full = [batch, heads * group, queries, keys];
            let dims: Vec<usize> = full.iter().map(|&dim| if case.coin() { dim } else { 1 }).collect();
            operands.push(case.operand("mask", mask, &dims));
        }
        let kv_lengths = case.coin();
        if kv_lengths {
            operands.push(case.indices("lengths", DType::I32, &[batch], keys + 1));
        }
        let with_lse = case.coin();
        let op = Attention {
            layout,
            num_heads: heads * group,
            num_kv_heads: heads,
            scale: None,
            softcap: case.coin().then_some(rlx_ir::attr::Real(5.0)),
            mask_kind,
            window: if mask_kind == MaskKind::SlidingWindow { 1 + case.below(5) } else { 0 },
            alignment: pick(case, Alignment::ALL),
            with_lse,
            mask: mask.is_some(),
            kv_lengths,
            block_table: false,
            sinks: false,
        };
        let results = case.graph.push_all(op, &operands);
        case.output("y", results[0]);
        if with_lse {
            case.output("lse", results[1]);
        }
        case.accuracy = Accuracy::Accumulated { terms: 256 };
        case.rounded = Some(dtype);
    });
}

#[test]
fn convolutions() {
    assert_agreement(13, 80, |case| {
        let dtype = pick(case, &FLOATS);
        let axes = 1 + case.below(3);
        let groups = pick(case, &[1, 1, 2, 3]);
        let (channels, outputs) = (1 + case.below(5), groups * (1 + case.below(5)));
        let list = |case: &mut Case, low: usize, count: usize| {
            (0..axes).map(|_| low + case.below(count)).collect::<Vec<_>>()
        };
        let plain = case.coin();
        let window = if plain { vec![1; axes] } else { list(case, 1, 3) };
        let op = Conv {
            stride: if case.coin() { vec![1; axes] } else { list(case, 1, 3) },
            padding_low: if plain { vec![0; axes] } else { list(case, 0, 3) },
            padding_high: if plain { vec![0; axes] } else { list(case, 0, 3) },
            dilation: list(case, 1, 2),
            groups,
            bias: case.coin(),
        };
        let mut x = vec![extent(case, 3), groups * channels];
        x.extend((0..axes).map(|axis| op.dilation[axis] * (window[axis] - 1) + 1 + case.below(9)));
        let mut w = vec![outputs, channels];
        w.extend(&window);
        let mut operands = vec![case.special("x", dtype, &x)];
        operands.push(if case.coin() { case.weight("w", dtype, &w) } else { case.special("w", dtype, &w) });
        if op.bias {
            operands.push(case.operand("b", dtype, &[outputs]));
        }
        let y = case.graph.push(op, &operands);
        let y = match case.below(4) {
            0 => case.graph.push(Activation::of(ActivationKind::Silu), &[y]),
            1 => {
                let dims = case.graph.ty(y).shape.as_static().unwrap();
                let residual = case.operand("residual", dtype, &dims);
                case.graph.add(y, residual)
            }
            _ => y,
        };
        case.output("y", y);
        case.accuracy = Accuracy::Accumulated { terms: 256 };
        case.rounded = Some(dtype);
    });
}

/// Zeros of packed padding times infinite weights would be NaN.
#[test]
fn padding_takes_no_part_in_sums() {
    assert_agreement(15, 1, |case| {
        let x = case.feed(
            "x",
            Literal::floats(DType::F32, &[1, 2, 5, 5], &[1.0; 50]).expect("one value per element"),
        );
        let w = case.feed(
            "w",
            Literal::floats(DType::F32, &[3, 2, 3, 3], &[f64::INFINITY; 54]).expect("one value per element"),
        );
        let op = Conv { padding_low: vec![1, 1], padding_high: vec![1, 1], ..Conv::plain(2) };
        let y = case.graph.push(op, &[x, w]);
        case.output("y", y);
        case.accuracy = Accuracy::Exact;
    });
}

#[test]
fn pools() {
    assert_agreement(14, 60, |case| {
        let kind = pick(case, PoolKind::ALL);
        let averages = matches!(kind, PoolKind::Mean | PoolKind::Lp);
        let dtype = if averages { pick(case, &FLOATS) } else { pick(case, &NUMBERS) };
        let axes = 1 + case.below(3);
        let mut list =
            |low: usize, count: usize| (0..axes).map(|_| low + case.below(count)).collect::<Vec<_>>();
        let window = list(1, 3);
        let op = Pool {
            kind,
            stride: list(1, 3),
            padding_low: list(0, 2),
            padding_high: list(0, 2),
            dilation: list(1, 2),
            window,
            ceil_mode: case.coin(),
            count_include_pad: kind == PoolKind::Mean && case.coin(),
            norm: (kind == PoolKind::Lp).then_some(rlx_ir::attr::Real(3.0)),
        };
        let mut x = extents(case, 2, 4);
        x.extend((0..axes).map(|axis| op.dilation[axis] * (op.window[axis] - 1) + 1 + case.below(9)));
        let x = case.special("x", dtype, &x);
        let y = case.graph.push(op, &[x]);
        case.output("y", y);
        case.accuracy = Accuracy::Accumulated { terms: 64 };
    });
}
