//! Faults that other systems pass over in silence, one named test each: through the whole pipeline on the CPU,
//! against plain loops in `f64`, known constants, or a refusal.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlx_autodiff::value_and_grad;
use rlx_ir::text::{parse_graph, print_graph};
use rlx_ir::{DType, Graph, Literal, TensorRef};
use rlx_runtime::{CompileOptions, Device, KernelDispatch, Session};
use std::sync::LazyLock;

static CPU: LazyLock<Session> = LazyLock::new(|| Session::new(Device::CPU).unwrap());

type Feeds<'a> = [(&'a str, Literal)];
/// Names, each with the rule that the loops follow.
type Table<F, const N: usize> = [(&'static str, F); N];
type Outcome = Result<Vec<(String, Literal)>, String>;

/// The text of a graph whose output "y" is what `lines` name so.
fn program(lines: &str) -> String {
    format!("rlx 1\ngraph \"g\" {{\n{lines}\noutput \"y\" = %y\n}}\n")
}

/// The text of a graph over inputs of given types.
fn declared(inputs: &[(&str, String)], lines: &str) -> String {
    let inputs = inputs.iter().map(|(name, ty)| format!("%{name} = input {{name = \"{name}\"}} : {ty}\n"));
    program(&(inputs.collect::<String>() + lines))
}

/// The text of a graph over `feeds`.
fn typed(feeds: &Feeds<'_>, lines: &str) -> String {
    let types: Vec<_> = feeds.iter().map(|(name, literal)| (*name, literal.ty().to_string())).collect();
    declared(&types, lines)
}

/// What a program gives with the kernels of the CPU, without fusion, and with definitions for composite ops.
fn outcomes(text: &str, feeds: &Feeds<'_>) -> [Outcome; 3] {
    let options = [
        CompileOptions::default(),
        CompileOptions { fusion: false, ..Default::default() },
        CompileOptions { dispatch: KernelDispatch::ForceDecomposed, ..Default::default() },
    ];
    options.map(|options| {
        let graph = parse_graph(text).map_err(|error| error.to_string())?;
        let mut compiled = CPU.compile_with(graph, &options).map_err(|error| error.to_string())?;
        let tensors: Vec<_> = feeds.iter().map(|(name, literal)| (*name, TensorRef::from(literal))).collect();
        compiled.run_typed(&tensors).map_err(|error| error.to_string())
    })
}

/// Every outcome's elements: within `tolerance` of `expected`, to the bit (but for that of a NaN) where it is 0.
fn check_program(text: &str, feeds: &Feeds<'_>, expected: &[f64], tolerance: f64) {
    for outcome in outcomes(text, feeds) {
        let outputs = outcome.unwrap_or_else(|error| panic!("{error}\n{text}"));
        let found: Vec<f64> = outputs.iter().flat_map(|(_, literal)| literal.to_f64s()).collect();
        let same = |(f, e): (&f64, &f64)| match tolerance {
            0.0 => f.to_bits() == e.to_bits() || f.is_nan() && e.is_nan(),
            _ => f == e || (f - e).abs() <= tolerance * e.abs().max(1.0) || f.is_nan() && e.is_nan(),
        };
        let right = found.len() == expected.len() && found.iter().zip(expected).all(same);
        assert!(right, "found {found:?}\nexpected {expected:?}\n{text}{feeds:?}");
    }
}

fn check(feeds: &Feeds<'_>, lines: &str, expected: &[f64], tolerance: f64) {
    check_program(&typed(feeds, lines), feeds, expected, tolerance);
}

/// Every outcome is an error that has all `words`, each in one of its forms.
fn check_refused(text: &str, feeds: &Feeds<'_>, words: &[&str]) {
    for outcome in outcomes(text, feeds) {
        let error = outcome.expect_err(text);
        assert!(
            words.iter().all(|word| word.split('|').any(|form| error.contains(form))),
            "{error}\nlacks one of {words:?}\n{text}"
        );
    }
}

fn floats(dims: &[usize], values: &[f64]) -> Literal {
    Literal::floats(DType::F32, dims, values).unwrap()
}

fn ints(dtype: DType, dims: &[usize], values: &[i128]) -> Literal {
    Literal::ints(dtype, dims, values).unwrap()
}

/// Values that `f32` holds, and their tensor.
fn wave(dims: &[usize], phase: f64) -> (Vec<f64>, Literal) {
    let count = dims.iter().product::<usize>();
    let values: Vec<f64> =
        (0..count).map(|i| f64::from((1.5 * (1.7 * i as f64 + phase).sin()) as f32)).collect();
    let literal = floats(dims, &values);
    (values, literal)
}

/// All coordinates within `dims`, in row-major order.
fn coordinates(dims: &[usize]) -> Vec<Vec<usize>> {
    dims.iter().fold(vec![vec![]], |so_far, &dim| {
        so_far.iter().flat_map(|c| (0..dim).map(move |i| [&c[..], &[i]].concat())).collect()
    })
}

/// Extents of an attention: query and key heads, query and key lengths.
const BATCH: usize = 2;
const HEADS: [usize; 2] = [4, 2];
const LENGTHS: [usize; 2] = [3, 5];
const EXTENT: usize = 4;

type Operands<'a> = [&'a (Vec<f64>, Literal); 3];

/// Attention with `score` for the products and `keep` for what a query sees.
fn attention([q, k, v]: Operands<'_>, score: fn(f64) -> f64, keep: fn(usize, usize) -> bool) -> Vec<f64> {
    let [heads, kv_heads] = HEADS;
    let [queries, keys] = LENGTHS;
    let mut y = vec![];
    for c in coordinates(&[BATCH, heads, queries]) {
        let row = |x: &(Vec<f64>, Literal), at: usize| x.0[at * EXTENT..][..EXTENT].to_vec();
        let query = row(q, (c[0] * heads + c[1]) * queries + c[2]);
        let key_at = |j: usize| (c[0] * kv_heads + c[1] / (heads / kv_heads)) * keys + j;
        let weight = |j: usize| {
            let product: f64 = query.iter().zip(row(k, key_at(j))).map(|(a, b)| a * b).sum();
            if keep(c[2], j) { score(product).exp() } else { 0.0 }
        };
        let total: f64 = (0..keys).map(weight).sum();
        for d in 0..EXTENT {
            let sum: f64 = (0..keys).map(|j| weight(j) * row(v, key_at(j))[d]).sum();
            y.push(if total > 0.0 { sum / total } else { 0.0 });
        }
    }
    y
}

/// Three operands of an attention, in `[batch, heads, sequence, extent]`.
fn attention_operands() -> [(Vec<f64>, Literal); 3] {
    let dims = |part: usize| [BATCH, HEADS[part], LENGTHS[part], EXTENT];
    [wave(&dims(0), 0.0), wave(&dims(1), 1.0), wave(&dims(1), 2.0)]
}

#[test]
fn softcap_or_scale_ignored_in_one_attention_layout() {
    let [q, k, v] = attention_operands();
    let causal = |i: usize, j: usize| j <= i + LENGTHS[1] - LENGTHS[0];
    let cases: Table<fn(f64) -> f64, 3> = [
        ("scale = none, softcap = none", |s| s / 2.0),
        ("scale = 0.75, softcap = none", |s| s * 0.75),
        ("scale = 0.75, softcap = 1.25", |s| 1.25 * (s * 0.75 / 1.25).tanh()),
    ];
    for (attributes, score) in cases {
        let expected = attention([&q, &k, &v], score, causal);
        for layout in ["bhsd", "bshd", "packed"] {
            let turn = |values: &[f64], part: usize| -> Literal {
                let (heads, length) = (HEADS[part], LENGTHS[part]);
                let at = |c: &[usize]| ((c[0] * heads + c[2]) * length + c[1]) * EXTENT + c[3];
                let turned = coordinates(&[BATCH, length, heads, EXTENT]);
                let turned: Vec<f64> = turned.iter().map(|c| values[at(c)]).collect();
                match layout {
                    "bhsd" => floats(&[BATCH, heads, length, EXTENT], values),
                    "bshd" => floats(&[BATCH, length, heads, EXTENT], &turned),
                    _ => floats(&[BATCH, length, heads * EXTENT], &turned),
                }
            };
            let feeds = [("q", turn(&q.0, 0)), ("k", turn(&k.0, 1)), ("v", turn(&v.0, 1))];
            let lines = format!(
                "%y = attention %q, %k, %v {{layout = {layout}, num_heads = 4, num_kv_heads = 2, {attributes}, \
                 mask_kind = causal, window = 0, alignment = end, with_lse = false}}"
            );
            check(&feeds, &lines, &turn(&expected, 0).to_f64s(), 1e-5);
        }
    }
}

#[test]
fn rows_of_attention_that_are_masked_whole() {
    let [q, k, v] = attention_operands();
    let keep = |i: usize, j: usize| i != 1 && !(i + j).is_multiple_of(3);
    let expected = attention([&q, &k, &v], |s| s / 2.0, keep);
    let kept: Vec<bool> = coordinates(&LENGTHS).iter().map(|c| keep(c[0], c[1])).collect();
    let added: Vec<f64> = kept.iter().map(|&kept| if kept { 0.0 } else { f64::NEG_INFINITY }).collect();
    let custom = ints(DType::Bool, &LENGTHS, &kept.iter().map(|&kept| i128::from(kept)).collect::<Vec<_>>());
    for (kind, mask) in [("custom", custom), ("bias", floats(&LENGTHS, &added))] {
        let feeds = [("q", q.1.clone()), ("k", k.1.clone()), ("v", v.1.clone()), ("mask", mask)];
        let lines = format!(
            "%y = attention %q, %k, %v, %mask {{layout = bhsd, num_heads = 4, num_kv_heads = 2, scale = none, \
             softcap = none, mask_kind = {kind}, window = 0, alignment = end, with_lse = false, mask = true}}"
        );
        check(&feeds, &lines, &expected, 1e-5);
    }
}

#[test]
fn convolution_over_one_axis_giving_zeros() {
    // Batch, channels, extent; outputs, window; stride, padding low and high, dilation, groups.
    for [n, c, extent, o, window, stride, low, high, dilation, groups] in
        [[1, 1, 9, 1, 3, 1, 0, 0, 1, 1], [2, 4, 21, 6, 3, 2, 1, 2, 2, 2], [1, 3, 8, 3, 4, 1, 3, 0, 1, 3]]
    {
        let (x, w) = (wave(&[n, c, extent], 0.0), wave(&[o, c / groups, window], 1.0));
        let windows = (extent + low + high - dilation * (window - 1) - 1) / stride + 1;
        let element = |at: &[usize]| -> f64 {
            let of_group = coordinates(&[c / groups, window]);
            let term = |t: &Vec<usize>| {
                let channel = at[1] / (o / groups) * (c / groups) + t[0];
                let position = (at[2] * stride + t[1] * dilation).checked_sub(low).filter(|&p| p < extent);
                let weight = w.0[(at[1] * (c / groups) + t[0]) * window + t[1]];
                position.map_or(0.0, |position| weight * x.0[(at[0] * c + channel) * extent + position])
            };
            of_group.iter().map(term).sum()
        };
        let expected: Vec<f64> = coordinates(&[n, o, windows]).iter().map(|at| element(at)).collect();
        let lines = format!(
            "%y = conv %x, %w {{stride = [{stride}], padding_low = [{low}], padding_high = [{high}], \
             dilation = [{dilation}], groups = {groups}, bias = false}}"
        );
        check(&[("x", x.1), ("w", w.1)], &lines, &expected, 1e-5);
    }
}

#[test]
fn pooling_that_knows_only_maximum_and_mean() {
    let (values, x) = wave(&[2, 5, 6], 0.0);
    let kinds: Table<fn(&[f64]) -> f64, 4> = [
        ("min", |x| x.iter().copied().fold(f64::INFINITY, f64::min)),
        ("max", |x| x.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        ("prod", |x| x.iter().product()),
        ("sum", |x| x.iter().sum()),
    ];
    for (kind, reduce) in kinds {
        // Windows of 2 x 3 in steps of 1 x 2 with one row and column of padding in front.
        let window = |at: &Vec<usize>| {
            let inside = coordinates(&[2, 3]).into_iter().filter_map(|t| {
                let (row, column) = ((at[1] + t[0]).checked_sub(1)?, (2 * at[2] + t[1]).checked_sub(1)?);
                (row < 5 && column < 6).then(|| values[(at[0] * 5 + row) * 6 + column])
            });
            reduce(&inside.collect::<Vec<_>>())
        };
        let expected: Vec<f64> = coordinates(&[2, 5, 3]).iter().map(window).collect();
        let lines = format!(
            "%y = pool %x {{kind = {kind}, window = [2, 3], stride = [1, 2], padding_low = [1, 1], \
             padding_high = [0, 0], dilation = [1, 1], ceil_mode = false, count_include_pad = false, norm = none}}"
        );
        check(&[("x", x.clone())], &lines, &expected, 1e-5);
    }
}

#[test]
fn norms_that_take_the_last_axis_whatever_is_asked() {
    type Rule = fn(&[f64], usize) -> f64;
    let (values, x) = wave(&[3, 4, 5], 0.0);
    let rules: [(&str, &str, bool, Rule); 4] = [
        ("layer_norm", "eps = 0.5, gamma = false, beta = false", true, |x, i| {
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
            (x[i] - mean) / (variance + 0.5).sqrt()
        }),
        ("rms_norm", "eps = 0.5, unit_offset = false, gamma = false, beta = false", true, |x, i| {
            x[i] / (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64 + 0.5).sqrt()
        }),
        ("softmax", "", false, |x, i| x[i].exp() / x.iter().map(|x| x.exp()).sum::<f64>()),
        ("cumsum", "exclusive = false, reverse = false", false, |x, i| x[..=i].iter().sum()),
    ];
    let all = coordinates(&[3, 4, 5]);
    for axes in [&[0][..], &[1], &[2], &[0, 1], &[0, 2], &[1, 2]] {
        let group_of = |c: &[usize]| -> Vec<usize> {
            let alike =
                |other: &Vec<usize>| (0..3).all(|axis| axes.contains(&axis) || other[axis] == c[axis]);
            (0..all.len()).filter(|&at| alike(&all[at])).collect()
        };
        for (op, attributes, several, rule) in rules {
            let axis = match several {
                true => format!("axes = {axes:?}"),
                false if axes.len() == 1 => format!("axis = {}", axes[0]),
                false => continue,
            };
            let expected = all.iter().enumerate().map(|(at, c)| {
                let group = group_of(c);
                let members: Vec<f64> = group.iter().map(|&at| values[at]).collect();
                rule(&members, group.iter().position(|&member| member == at).unwrap())
            });
            let separator = if attributes.is_empty() { "" } else { ", " };
            let lines = format!("%y = {op} %x {{{axis}{separator}{attributes}}}");
            check(&[("x", x.clone())], &lines, &expected.collect::<Vec<_>>(), 1e-5);
        }
    }
}

#[test]
fn nan_and_infinity_lost_at_some_widths() {
    type Rule = fn(&[f64], &[f64], usize) -> f64;
    fn extreme(x: &[f64], pick: fn(f64, f64) -> f64) -> f64 {
        if x.iter().any(|x| x.is_nan()) { f64::NAN } else { x.iter().copied().reduce(pick).unwrap() }
    }
    let single = |x: f64| f64::from(x as f32);
    let special =
        [1.0, f64::INFINITY, -0.75, f64::NEG_INFINITY, 90.0, -104.0, 20.0, f64::NAN, -1e30, 3e38, 0.5];
    let rules: [(&str, bool, Rule); 7] = [
        ("activation %x {kind = exp, parameter = none}", false, |x, _, i| x[i].exp()),
        ("activation %x {kind = tanh, parameter = none}", false, |x, _, i| x[i].tanh()),
        ("activation %x {kind = relu, parameter = none}", false, |x, _, i| extreme(&[x[i], 0.0], f64::max)),
        ("binary %x, %z {kind = max}", false, |x, z, i| extreme(&[x[i], z[i]], f64::max)),
        ("binary %x, %z {kind = min}", false, |x, z, i| extreme(&[x[i], z[i]], f64::min)),
        ("reduce %x {kind = max, axes = [0], keep_dims = false}", true, |x, _, _| extreme(x, f64::max)),
        ("reduce %x {kind = min, axes = [0], keep_dims = false}", true, |x, _, _| extreme(x, f64::min)),
    ];
    for (line, reduces, rule) in rules {
        let text = declared(&["x", "z"].map(|name| (name, "f32[N]".to_string())), &format!("%y = {line}"));
        for (width, shift) in (1..=70).flat_map(|width| [(width, 0), (width, 4)]) {
            let values = |step: usize| -> Vec<f64> {
                (0..width).map(|i| single(special[(step * i + shift) % special.len()])).collect()
            };
            let (x, z) = (values(1), values(3));
            let count = if reduces { 1 } else { width };
            let expected: Vec<f64> = (0..count).map(|i| single(rule(&x, &z, i))).collect();
            let feeds = [("x", floats(&[width], &x)), ("z", floats(&[width], &z))];
            check_program(&text, &feeds, &expected, 1e-6);
        }
    }
}

#[test]
fn terms_that_cancel_only_where_all_is_finite() {
    let special = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 2.5, -3.0];
    let x: Vec<f64> = (0..40).map(|i| special[i % special.len()]).collect();
    let rules: Table<fn(f64) -> f64, 6> = [
        ("binary %x, %x {kind = sub}", |x| x - x),
        ("binary %x, %zero {kind = mul}", |x| x * 0.0),
        ("binary %x, %x {kind = div}", |x| x / x),
        ("binary %x, %x {kind = max}", |x| x),
        ("binary %x, %zero {kind = add}", |x| x + 0.0),
        ("binary %zero, %x {kind = sub}", |x| 0.0 - x),
    ];
    for (line, rule) in rules {
        let lines = format!("%zero = constant {{value = f32[]:[0.0]}}\n%y = {line}");
        let expected: Vec<f64> = x.iter().map(|&x| rule(x)).collect();
        check(&[("x", floats(&[40], &x))], &lines, &expected, 0.0);
    }
}

#[test]
fn integers_that_go_through_floats() {
    let rules: Table<fn(i128, i128) -> i128, 3> =
        [("add", |a, b| a + b), ("sub", |a, b| a - b), ("mul", i128::wrapping_mul)];
    for &dtype in DType::ALL.iter().filter(|dtype| dtype.is_int() && dtype.block_bits() >= 8) {
        let bits = dtype.block_bits();
        let wrap = |value: i128| {
            let value = value.rem_euclid(1 << bits);
            let negative = dtype.name().starts_with('i') && value >> (bits - 1) == 1;
            if negative { value - (1 << bits) } else { value }
        };
        let far = (1 << 53) + 1;
        let values =
            [1 << (bits - 1), (1 << (bits - 1)) - 1, far, -far, 1, 3, -1, (1 << 24) + 1, 77].map(wrap);
        let a: Vec<i128> = (0..37).map(|i| values[i % 9]).collect();
        let b: Vec<i128> = (0..37).map(|i| values[(i * 4 + i / 9) % 9]).collect();
        let feeds = [("a", ints(dtype, &[37], &a)), ("b", ints(dtype, &[37], &b))];
        let check = |lines: &str, expected: Vec<i128>| {
            for outcome in outcomes(&typed(&feeds, lines), &feeds) {
                assert_eq!(outcome.unwrap()[0].1.to_ints(), expected, "{dtype} {lines}");
            }
        };
        for (kind, rule) in rules {
            let expected = a.iter().zip(&b).map(|(&a, &b)| wrap(rule(a, b))).collect();
            check(&format!("%y = binary %a, %b {{kind = {kind}}}"), expected);
        }
        let total = vec![wrap(a.iter().sum())];
        check("%y = reduce %a {kind = sum, axes = [0], keep_dims = false}", total);
    }
}

/// Bytes of 256 elements of each dtype.
const BYTES_OF_256: &str = "c128=4096 f64=2048 i64=2048 u64=2048 c64=2048 f32=1024 i32=1024 u32=1024 f16=512 bf16=512 \
    i16=512 u16=512 f8e4m3=256 f8e5m2=256 f8e4m3fnuz=256 f8e5m2fnuz=256 f8e8m0=256 i8=256 u8=256 bool=256 f4e2m1=128 \
    i4=128 u4=128 i2=64 u2=64 q4_0=144 q4_1=160 q5_0=176 q5_1=192 q8_0=272 q2_k=84 q3_k=110 q4_k=144 q5_k=176 \
    q6_k=210 q8_k=292 iq4_nl=144 iq4_xs=136 mxfp4=136 nvfp4=144";

#[test]
fn results_with_the_bytes_of_another_dtype() {
    assert_eq!(BYTES_OF_256.split(' ').count(), DType::ALL.len());
    for entry in BYTES_OF_256.split(' ') {
        let (name, size) = entry.split_once('=').unwrap();
        let (dtype, size): (_, usize) = (DType::parse(name).unwrap(), size.parse().unwrap());
        let mask = if dtype == DType::Bool { 1 } else { 255 };
        let bytes: Vec<u8> = (0..3 * size).map(|i| (i * 37 % 251) as u8 & mask).collect();
        let table = Literal::from_bytes(dtype, &[3, 256], &bytes).unwrap();
        let feeds = [("table", table), ("rows", ints(DType::I64, &[2], &[2, 0]))];
        let graph = parse_graph(&typed(&feeds, "%y = gather %table, %rows {axis = 0}")).unwrap();
        let mut compiled = CPU.compile(graph).unwrap();
        let inputs: Vec<_> = feeds.iter().map(|(name, literal)| (*name, TensorRef::from(literal))).collect();
        let outputs = compiled.run_raw(&inputs).unwrap();
        assert_eq!((outputs[0].dtype, &outputs[0].dims[..]), (dtype, &[2, 256][..]));
        assert!(outputs[0].bytes == [&bytes[2 * size..], &bytes[..size]].concat(), "{dtype}");
        let short = [("table", TensorRef { bytes: &bytes[1..], ..inputs[0].1 }), inputs[1]];
        let error = compiled.run_raw(&short).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(&format!("found {} bytes", 3 * size - 1)), "{dtype}: {error}");
    }
}

#[test]
fn views_past_the_end() {
    let feeds = [("x", wave(&[2, 3], 0.0).1)];
    for (line, words) in [
        ("reshape %x {shape = [2, 4]}", ["reshape", "has 6 elements, [2, 4] has 8"]),
        ("reshape %x {shape = [5]}", ["reshape", "has 6 elements, [5] has 5"]),
        ("narrow %x {axis = 1, start = 2, len = 2}", ["narrow", "4 is beyond 3"]),
        ("narrow %x {axis = 0, start = 3, len = 0}", ["narrow", "3 is beyond 2"]),
        ("narrow %x {axis = 2, start = 0, len = 1}", ["narrow", "axis"]),
        ("transpose %x {permutation = [0, 2]}", ["transpose", "permutation"]),
    ] {
        check_refused(&typed(&feeds, &format!("%y = {line}")), &feeds, &words);
    }
    let open = declared(&[("x", "f32[N]".into())], "%y = narrow %x {axis = 0, start = 2, len = 3}");
    check_program(&open, &[("x", floats(&[5], &[1.0, 2.0, 3.0, 4.0, 5.0]))], &[3.0, 4.0, 5.0], 0.0);
    check_refused(&open, &[("x", floats(&[4], &[1.0; 4]))], &["narrow", "5 is beyond 4"]);
}

#[test]
fn constants_with_too_few_values() {
    for value in
        ["f32[3]:[1.0, 2.0]", "f32[3]:[1.0, 2.0, 3.0, 4.0]", "i4[3]:[1]", "f32[]:[]", "bool[2]:[true]"]
    {
        check_refused(&program(&format!("%y = constant {{value = {value}}}")), &[], &[]);
    }
    for (dtype, bytes) in
        [(DType::F32, 11), (DType::F32, 13), (DType::I4, 1), (DType::C128, 24), (DType::F64, 0)]
    {
        assert!(Literal::from_bytes(dtype, &[3], &vec![0; bytes]).is_err(), "{dtype} from {bytes} bytes");
    }
    assert!(Literal::floats(DType::F32, &[3], &[1.0; 2]).is_err());
    assert!(Literal::ints(DType::I2, &[3], &[1; 4]).is_err());
}

#[test]
fn names_that_are_taken() {
    for second in ["input", "param", "state"] {
        let lines = format!("%y = {second} {{name = \"x\"}} : f32[2]");
        check_refused(&declared(&[("x", "f32[2]".into())], &lines), &[], &["\"x\"", "taken"]);
    }
    let mut graph = Graph::new("g");
    let (a, b) = (graph.input_f32("x", [2]), graph.input_f32("x", [2]));
    let y = graph.add(a, b);
    graph.output("y", y);
    let error = CPU.compile(graph).unwrap_err().to_string();
    assert!(error.contains("\"x\"") && error.contains("taken"), "{error}");
    let x = floats(&[2], &[1.0, 2.0]);
    let text = declared(&[("x", "f32[2]".into())], "%y = reverse %x {axes = [0]}");
    check_refused(&text, &[("x", x.clone()), ("x", x)], &["\"x\"", "twice"]);
}

#[test]
fn indices_out_of_range_that_read_something() {
    let matrix = wave(&[3, 2], 0.0).1;
    let lines = [
        ("gather", "gather %x, %i {axis = 0}"),
        ("grouped_matmul|gather", "grouped_matmul %rows, %bank, %i {transpose_w = false}"),
    ];
    for (dtype, wrong) in
        [(DType::I64, 3), (DType::I32, -1), (DType::I64, 1 << 40), (DType::U32, (1 << 32) - 1)]
    {
        for (op, line) in lines {
            let i = ints(dtype, &[4], &[0, 2, wrong, 1]);
            let (rows, bank) = (wave(&[4, 2], 1.0).1, wave(&[3, 2, 2], 2.0).1);
            let feeds = [("x", matrix.clone()), ("rows", rows), ("bank", bank), ("i", i)];
            let text = typed(&feeds, &format!("%y = {line}"));
            check_refused(&text, &feeds, &[op, "position 2|element 2|[2]"]);
        }
    }
}

#[test]
fn the_largest_of_more_than_there_are() {
    let attributes = "{k = 4, axis = 0, largest = true, sorted = true, dtype = i32}";
    let line = |ty: &str| declared(&[("x", ty.into())], &format!("%y = top_k %x {attributes}"));
    let three = floats(&[3], &[1.0, 2.0, 3.0]);
    check_refused(&line("f32[3]"), &[("x", three.clone())], &["top_k", "k is 4"]);
    check_refused(&line("f32[N]"), &[("x", three)], &["top_k", "k is 4"]);
    let five = floats(&[5], &[1.0, 5.0, 3.0, 4.0, 2.0]);
    check_program(&line("f32[N]"), &[("x", five)], &[5.0, 4.0, 3.0, 2.0], 0.0);
}

#[test]
fn seeds_that_repeat() {
    let draw = |lines: &str, key: [i128; 2]| -> Vec<i128> {
        let feeds = [("key", ints(DType::U32, &[2], &key))];
        let [native, plain, decomposed] =
            outcomes(&typed(&feeds, lines), &feeds).map(|outcome| outcome.unwrap()[0].1.clone());
        assert!(native == plain && native == decomposed, "{key:?}");
        let words = native.bytes().chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
        words.map(i128::from).collect()
    };
    let top = i128::from(u32::MAX);
    let keys = [[0, 0], [1, 0], [0, 1], [1, 1], [2, 0], [top, 0], [0, top], [top, top], [1 << 16, 0]];
    let step = "%n = constant {value = i64[]:[STEP]}\n%folded = random_fold_in %key, %n\n";
    let mut seen = std::collections::BTreeSet::new();
    for key in keys {
        let bits = "random_bits %key {dtype = u32, shape = [64]}";
        let streams = [0, 1, 2].map(|n| {
            let step = step.replace("STEP", &n.to_string());
            format!("{step}  %y = {}", bits.replace("%key", "%folded"))
        });
        for lines in [format!("%y = {bits}")].iter().chain(&streams) {
            let words = draw(lines, key);
            assert_eq!(words, draw(lines, key), "one key, two streams");
            for word in words {
                assert!(seen.insert(word), "{key:?} repeats {word}");
            }
        }
    }
    // What the authors of Philox publish for counter 0 and key 0.
    let known = [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8];
    assert_eq!(draw("%y = random_bits %key {dtype = u32, shape = [4]}", [0, 0]), known);
    let uniform = draw("%y = random_uniform %key {dtype = f32, shape = [4]}", [0, 0]);
    let expected = known.map(|word| i128::from(((word >> 8) as f32 / 16_777_216.0).to_bits()));
    assert_eq!(uniform, expected);
}

#[test]
fn activations_dropped_between_quantisers() {
    let codes: Vec<i128> = (0..83).map(|i| i * 3 % 256 - 128).collect();
    let rules: Table<fn(f64) -> f64, 5> = [
        ("relu", |x| x.max(0.0)),
        ("tanh", f64::tanh),
        ("sigmoid", |x| 1.0 / (1.0 + (-x).exp())),
        ("silu", |x| x / (1.0 + (-x).exp())),
        ("neg", |x| -x),
    ];
    for (kind, rule) in rules {
        let lines = format!(
            "%s = constant {{value = f32[]:[0.0625]}}\n%t = constant {{value = f32[]:[0.03125]}}\n\
             %p = constant {{value = i8[]:[3]}}\n%q = constant {{value = i8[]:[-5]}}\n\
             %d = dequantize %x, %s, %p {{block = [], to = f32, scale = true, zero_point = true}}\n\
             %a = activation %d {{kind = {kind}, parameter = none}}\n\
             %y = quantize %a, %t, %q {{block = [], to = i8, scale = true, zero_point = true}}"
        );
        // Within half a code of the exact result, saturated.
        let feeds = [("x", ints(DType::I8, &[83], &codes))];
        for outcome in outcomes(&typed(&feeds, &lines), &feeds) {
            for (&code, found) in codes.iter().zip(outcome.unwrap()[0].1.to_f64s()) {
                let exact = (rule((code - 3) as f64 * 0.0625) / 0.03125 - 5.0).clamp(-128.0, 127.0);
                assert!((found - exact).abs() <= 0.5001, "{kind} of {code}: {found}, expected {exact}");
            }
        }
    }
}

#[test]
fn products_of_transposed_views() {
    for [m, n, k] in [[1, 1, 3], [5, 4, 3], [8, 8, 8], [17, 19, 23], [64, 33, 40]] {
        let (a, b) = (wave(&[k, m], 0.0), wave(&[n, k + 2], 1.0));
        let term = |c: &[usize], i: usize| a.0[i * m + c[0]] * b.0[c[1] * (k + 2) + i + 1];
        let expected: Vec<f64> =
            coordinates(&[m, n]).iter().map(|c| (0..k).map(|i| term(c, i)).sum()).collect();
        let turned = "%u = transpose %a {permutation = [1, 0]}\n%v = transpose %c {permutation = [1, 0]}\n";
        for (prefix, line) in [
            (turned, "matmul %u, %v {transpose_a = false, transpose_b = false}"),
            ("", "matmul %a, %c {transpose_a = true, transpose_b = true}"),
            ("", "dot_general %a, %c {lhs_contracting = [0], rhs_contracting = [1]NO_BATCH}"),
            (turned, "dot_general %u, %v {lhs_contracting = [1], rhs_contracting = [0]NO_BATCH}"),
        ] {
            let line = line.replace("NO_BATCH", ", lhs_batch = [], rhs_batch = []");
            let lines = format!("%c = narrow %b {{axis = 1, start = 1, len = {k}}}\n{prefix}  %y = {line}");
            check(&[("a", a.1.clone()), ("b", b.1.clone())], &lines, &expected, 1e-5);
        }
    }
}

#[test]
fn parts_of_a_concatenation_that_do_not_fit() {
    let (a, b) = (wave(&[2, 3], 0.0), wave(&[2, 4], 1.0));
    let feeds = [("a", a.1), ("b", b.1), ("c", ints(DType::I32, &[2, 3], &[0; 6])), ("d", wave(&[2], 2.0).1)];
    for (parts, axis, words) in [
        ("%a, %b", 0, "does not fit"),
        ("%a, %d", 0, "does not fit"),
        ("%a, %c", 0, "(C1)"),
        ("%a, %a", 2, "(C2)"),
    ] {
        let text = typed(&feeds, &format!("%y = concat {parts} {{axis = {axis}}}"));
        check_refused(&text, &feeds, &["concat", words]);
    }
    let rows = a.0.chunks(3).zip(b.0.chunks(4)).flat_map(|(a, b)| [a, b].concat());
    check(&feeds, "%y = concat %a, %b {axis = 1}", &rows.collect::<Vec<_>>(), 0.0);
}

#[test]
fn banks_of_experts_read_transposed() {
    // Square matrices, so that the wrong way round has the right shape.
    for [rows, extent] in [[5, 3], [40, 16]] {
        let (x, bank) = (wave(&[rows, extent], 0.0), wave(&[4, extent, extent], 1.0));
        let experts: Vec<i128> = (0..rows).map(|i| [3, 0, 1, 3, 2][i % 5]).collect();
        for transposed in [false, true] {
            let element = |c: &Vec<usize>| -> f64 {
                let of = |row: usize, column: usize| {
                    bank.0[(experts[c[0]] as usize * extent + row) * extent + column]
                };
                let term =
                    |i: usize| x.0[c[0] * extent + i] * if transposed { of(c[1], i) } else { of(i, c[1]) };
                (0..extent).map(term).sum()
            };
            let expected: Vec<f64> = coordinates(&[rows, extent]).iter().map(element).collect();
            let experts = ints(DType::I32, &[rows], &experts);
            let lines = format!("%y = grouped_matmul %x, %w, %e {{transpose_w = {transposed}}}");
            check(&[("x", x.1.clone()), ("w", bank.1.clone()), ("e", experts)], &lines, &expected, 1e-5);
        }
    }
}

#[test]
fn gradients_of_a_value_that_is_used_again() {
    let (values, x) = wave(&[9], 0.0);
    let feeds = [("x", x)];
    // h = x x + x, y = sum(h h + h): dy/dx = (2 h + 1) (2 x + 1).
    let lines = "%xx = binary %x, %x {kind = mul}\n%h = binary %xx, %x {kind = add}\n\
                 %hh = binary %h, %h {kind = mul}\n%s = binary %hh, %h {kind = add}\n\
                 %y = reduce %s {kind = sum, axes = [0], keep_dims = false}";
    let graph = value_and_grad(&parse_graph(&typed(&feeds, lines)).unwrap(), "y", &["x"]).unwrap();
    let h = |x: f64| x * x + x;
    let total: f64 = values.iter().map(|&x| h(x) * h(x) + h(x)).sum();
    let slopes: Vec<f64> = values.iter().map(|&x| (2.0 * h(x) + 1.0) * (2.0 * x + 1.0)).collect();
    check_program(&print_graph(&graph), &feeds, &[&[total], &slopes[..]].concat(), 1e-5);
}
