//! The product against naive loops, at every level, for odd shapes, strides and special values.

use super::*;
use crate::kernels::testing::{Noise, Scratch, at_every_level};
use crate::pool::Pool;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Case {
    extents: [usize; 3],
    a_transposed: bool,
    b_transposed: bool,
    b_packed: bool,
    accumulate: bool,
}

fn cases(noise: &mut Noise) -> Vec<Case> {
    let sizes = [0, 1, 2, 3, 5, 8, 12, 13, 17, 31, 33, 48, 65, 97, 130];
    let make = |round: usize| {
        let mut pick = || sizes[noise.below(sizes.len())];
        let mut extents = [pick(), pick(), pick()];
        if round % 15 == 14 {
            extents[2] = 1030 + round;
        }
        let mut flag = || noise.below(2) == 1;
        let (a_transposed, b_transposed) = (flag(), flag());
        Case { extents, a_transposed, b_transposed, b_packed: flag(), accumulate: flag() }
    };
    (0..75).map(make).collect()
}

/// Integers that every element type holds exactly, as do all sums of their products.
fn draw(noise: &mut Noise, count: usize) -> Vec<i64> {
    (0..count).map(|_| noise.below(17) as i64 - 8).collect()
}

/// Lays out `rows` by `columns` values from element 2 on, with gaps of an odd value.
fn lay_out<T: Plain>(
    values: &[i64],
    [rows, columns]: [usize; 2],
    transposed: bool,
    make: fn(i64) -> T,
) -> (Vec<T>, [isize; 2]) {
    let (outer, inner) = if transposed { (columns, rows) } else { (rows, columns) };
    let stride = inner + 3;
    let mut data = vec![make(1 << 20); 2 + outer * stride];
    for r in 0..rows {
        for c in 0..columns {
            let (o, i) = if transposed { (c, r) } else { (r, c) };
            data[2 + o * stride + i] = make(values[r * columns + c]);
        }
    }
    let stride = stride as isize;
    (data, if transposed { [1, stride] } else { [stride, 1] })
}

/// Conversions between the test's integers and the element types.
struct Types<A, B, C> {
    a: fn(i64) -> A,
    b: fn(i64) -> B,
    c: fn(i64) -> C,
    back: fn(C) -> i64,
}

fn check_case<A: Times<B>, B: RightElement>(
    context: Context<'_>,
    case: &Case,
    noise: &mut Noise,
    types: &Types<A, B, A::Output>,
) {
    let [m, n, k] = case.extents;
    let (a, b, c) = (draw(noise, m * k), draw(noise, k * n), draw(noise, m * n));
    let (a_data, a_strides) = lay_out(&a, [m, k], case.a_transposed, types.a);
    let (b_data, b_strides) = lay_out(&b, [k, n], case.b_transposed, types.b);
    let a_view = Matrix::new(&a_data, 2, [m, k], a_strides).expect("the view lies in its data");
    let b_view = Matrix::new(&b_data, 2, [k, n], b_strides).expect("the view lies in its data");
    let mut c_data: Vec<A::Output> = c.iter().map(|&x| (types.c)(x)).collect();
    let (level, threads) = (context.level(), context.pool().threads());
    let layout = Layout { a_contiguous: !case.a_transposed, b_packed: case.b_packed };
    let mut scratch = Scratch::new(scratch_bytes::<A, B>(level, threads, [m, n, k], layout));
    let mut packed = Scratch::new(PackedB::<B>::bytes(level, k, n).expect("the matrix is small"));
    let right = if case.b_packed {
        PackedB::pack(context, b_view, packed.bytes()).expect("the matrix is small");
        Right::Packed(PackedB::from_bytes(level, [k, n], packed.bytes()).expect("the matrix is small"))
    } else {
        Right::Strided(b_view)
    };
    let product = Gemm {
        a: a_view,
        b: right,
        c: MatrixMut::dense(&mut c_data, m, n).expect("the view lies in its data"),
        accumulate: case.accumulate,
        epilogue: None,
        scratch: scratch.bytes(),
    };
    gemm(context, product).expect("the operands are valid");
    for i in 0..m {
        for j in 0..n {
            let start = if case.accumulate { c[i * n + j] } else { 0 };
            let expected = start + (0..k).map(|p| a[i * k + p] * b[p * n + j]).sum::<i64>();
            let found = (types.back)(c_data[i * n + j]);
            assert_eq!(found, expected, "{level:?} {:?} packed {} c[{i},{j}]", case.extents, case.b_packed);
        }
    }
}

fn check_types<A: Times<B>, B: RightElement>(types: &Types<A, B, A::Output>) {
    for threads in [1, 3] {
        let pool = Pool::new(threads).expect("threads start");
        at_every_level(&pool, |context| {
            let mut noise = Noise::new(7);
            for case in cases(&mut noise) {
                check_case(context, &case, &mut noise, types);
            }
        });
    }
}

fn brain(x: i64) -> bf16 {
    bf16::from_f32(x as f32)
}

fn half_float(x: i64) -> f16 {
    f16::from_f32(x as f32)
}

fn single(x: i64) -> f32 {
    x as f32
}

fn from_single(x: f32) -> i64 {
    x as i64
}

#[test]
fn f32_matches_exact_sums() {
    check_types(&Types { a: single, b: single, c: single, back: from_single });
}

#[test]
fn half_types_match_exact_sums() {
    check_types(&Types { a: single, b: brain, c: single, back: from_single });
    check_types(&Types { a: single, b: half_float, c: single, back: from_single });
    check_types(&Types { a: brain, b: brain, c: single, back: from_single });
    check_types(&Types { a: half_float, b: half_float, c: single, back: from_single });
}

#[test]
fn wide_types_match_exact_sums() {
    check_types(&Types { a: |x| x as f64, b: |x| x as f64, c: |x| x as f64, back: |x| x as i64 });
    check_types(&Types { a: |x| x as i32, b: |x| x as i32, c: |x| x as i32, back: i64::from });
    check_types(&Types { a: |x| x, b: |x| x, c: |x| x, back: |x| x });
}

#[test]
fn integers_wrap() {
    let pool = Pool::inline();
    at_every_level(&pool, |context| {
        let a = [i64::MAX, i64::MIN + 5];
        let b = [3, 7];
        let mut c = [11i64];
        let mut scratch = Scratch::new(1 << 20);
        let product = Gemm {
            a: Matrix::dense(&a, 1, 2).expect("the view lies in its data"),
            b: Right::Strided(Matrix::dense(&b, 2, 1).expect("the view lies in its data")),
            c: MatrixMut::dense(&mut c, 1, 1).expect("the view lies in its data"),
            accumulate: true,
            epilogue: None,
            scratch: scratch.bytes(),
        };
        gemm(context, product).expect("the operands are valid");
        let expected = a[0].wrapping_mul(3).wrapping_add(a[1].wrapping_mul(7)).wrapping_add(11);
        assert_eq!(c[0], expected);
    });
}

fn multiply(context: Context<'_>, a: &[f32], b: &[f32], [m, n, k]: [usize; 3]) -> Vec<f32> {
    let mut c = vec![0.0; m * n];
    let mut scratch = Scratch::new(8 << 20);
    let product = Gemm {
        a: Matrix::dense(a, m, k).expect("the view lies in its data"),
        b: Right::Strided(Matrix::dense(b, k, n).expect("the view lies in its data")),
        c: MatrixMut::dense(&mut c, m, n).expect("the view lies in its data"),
        accumulate: false,
        epilogue: None,
        scratch: scratch.bytes(),
    };
    gemm(context, product).expect("the operands are valid");
    c
}

#[test]
fn rounding_stays_in_its_bound_and_threads_change_no_bit() {
    let extents @ [m, n, k] = [75, 211, 700];
    let mut noise = Noise::new(3);
    let (a, b) = (noise.units(m * k), noise.units(k * n));
    let (one, many) = (Pool::inline(), Pool::new(4).expect("threads start"));
    at_every_level(&many, |context| {
        let c = multiply(context, &a, &b, extents);
        let alone = Context::with_level(&one, context.level()).expect("the level was detected");
        assert_eq!(c, multiply(alone, &a, &b, extents));
        for (at, &found) in c.iter().enumerate() {
            let (i, j) = (at / n, at % n);
            let terms = (0..k).map(|p| f64::from(a[i * k + p]) * f64::from(b[p * n + j]));
            let (sum, size) = terms.fold((0.0, 0.0), |(s, z), t| (s + t, z + t.abs()));
            assert!((f64::from(found) - sum).abs() <= size * k as f64 * f64::from(f32::EPSILON) / 2.0);
        }
    });
}

#[test]
fn special_values_touch_only_their_row_and_column() {
    let pool = Pool::inline();
    let [m, n, k] = [14, 37, 19];
    at_every_level(&pool, |context| {
        let (mut a, mut b) = (vec![1.0; m * k], vec![1.0; k * n]);
        a[5 * k + 18] = f32::NAN;
        b[3 * n + 36] = f32::INFINITY;
        let c = multiply(context, &a, &b, [m, n, k]);
        for i in 0..m {
            for j in 0..n {
                let found = c[i * n + j];
                match (i == 5, j == 36) {
                    (true, _) => assert!(found.is_nan()),
                    (_, true) => assert_eq!(found, f32::INFINITY),
                    _ => assert_eq!(found, k as f32),
                }
            }
        }
    });
}

#[test]
fn the_epilogue_sees_every_finished_element_once() {
    let pool = Pool::new(3).expect("threads start");
    at_every_level(&pool, |context| {
        for [m, n, k] in [[1, 700, 3], [130, 97, 600], [40, 5, 0], [3, 33, 40]] {
            let mut c = vec![5.0f32; m * n];
            let (a, b) = (vec![1.0f32; m * k], vec![2.0f32; k * n]);
            let seen = AtomicUsize::new(0);
            let epilogue = |tile: &mut TileMut<'_, f32>| {
                for row in tile.rows() {
                    let first = tile.columns().start;
                    for (j, x) in tile.row_mut(row).iter_mut().enumerate() {
                        assert_eq!(*x, 2.0 * k as f32);
                        *x += (row * n + first + j) as f32;
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                }
            };
            let mut scratch = Scratch::new(8 << 20);
            let product = Gemm {
                a: Matrix::dense(&a, m, k).expect("the view lies in its data"),
                b: Right::Strided(Matrix::dense(&b, k, n).expect("the view lies in its data")),
                c: MatrixMut::dense(&mut c, m, n).expect("the view lies in its data"),
                accumulate: false,
                epilogue: Some(&epilogue),
                scratch: scratch.bytes(),
            };
            gemm(context, product).expect("the operands are valid");
            assert_eq!(seen.into_inner(), m * n);
            assert!(c.iter().enumerate().all(|(i, &x)| x == 2.0 * k as f32 + i as f32));
        }
    });
}

#[test]
fn wrong_operands_are_refused() {
    let pool = Pool::inline();
    let context = Context::new(&pool);
    let (a, b) = ([0f32; 12], [0f32; 12]);
    let mut c = [0f32; 16];
    let mut try_with = |rows: usize, b: Right<'_, f32>, scratch: &mut [u8]| {
        let product = Gemm {
            a: Matrix::dense(&a, rows, 3).expect("the view lies in its data"),
            b,
            c: MatrixMut::dense(&mut c, 4, 4).expect("the view lies in its data"),
            accumulate: false,
            epilogue: None,
            scratch,
        };
        gemm(context, product)
    };
    let strided =
        |rows, columns| Right::Strided(Matrix::dense(&b, rows, columns).expect("the view lies in its data"));
    let mut scratch = Scratch::new(1 << 20);
    assert!(matches!(try_with(4, strided(4, 3), scratch.bytes()), Err(KernelError::Extent { .. })));
    assert!(matches!(try_with(3, strided(3, 4), scratch.bytes()), Err(KernelError::Extent { .. })));
    let short = try_with(4, strided(3, 4), &mut []);
    assert!(matches!(short, Err(KernelError::BufferTooSmall { .. })));
    assert!(try_with(4, strided(3, 4), scratch.bytes()).is_ok());
    let bytes = PackedB::<f32>::bytes(context.level(), 3, 4).expect("the matrix is small");
    let packed = PackedB::<f32>::from_bytes(context.level(), [3, 4], &scratch.bytes()[..bytes - 1]);
    assert!(matches!(packed, Err(KernelError::BufferTooSmall { .. })));
    assert!(PackedB::<f32>::bytes(context.level(), usize::MAX, 2).is_none());
}
