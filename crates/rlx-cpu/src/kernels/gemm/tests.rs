//! What products in graphs do not show: each element reaches the epilogue once, wrong operands are refused.

use super::*;
use crate::kernels::testing::{Scratch, at_every_level};
use crate::pool::Pool;
use std::sync::atomic::{AtomicUsize, Ordering};

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
