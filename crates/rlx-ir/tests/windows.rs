//! What convolution, pooling and resizing refuse, and the extents they give
//! for symbols.

use rlx_ir::attr::Real;
use rlx_ir::ops::{Conv, ConvTranspose2d, Pool, PoolKind, Resize};
use rlx_ir::{DType, Dim, Op, Shape, TensorType};

fn f32(dims: &[usize]) -> TensorType {
    TensorType::new(DType::F32, dims)
}

/// Expects the violation `constraint` with a message that holds `part`.
fn refused(op: impl Into<Op>, operands: &[TensorType], constraint: &str, part: &str) {
    let op = op.into();
    let violation = op.infer(&operands.iter().collect::<Vec<_>>()).expect_err(part);
    assert_eq!(violation.constraint, constraint, "{violation}");
    assert!(violation.message.contains(part), "{violation} does not say {part:?}");
}

fn shape(op: impl Into<Op>, operands: &[TensorType]) -> String {
    let op = op.into();
    let types = op.infer(&operands.iter().collect::<Vec<_>>()).unwrap_or_else(|error| panic!("{error}"));
    types[0].shape.to_string()
}

#[test]
fn conv_names_what_it_refuses() {
    let op = Conv::plain(2);
    let (x, w) = (f32(&[1, 4, 5, 6]), f32(&[2, 4, 3, 3]));
    let ints = |dims: [usize; 4]| TensorType::new(DType::I32, dims);
    refused(op.clone(), &[ints([1, 4, 5, 6]), ints([2, 4, 3, 3])], "C1", "i32");
    refused(op.clone(), &[f32(&[4, 5]), f32(&[2, 4])], "C2", "rank");
    refused(Conv { stride: vec![1], ..op.clone() }, &[x.clone(), w.clone()], "C3", "stride has 1");
    refused(Conv { dilation: vec![1, 0], ..op.clone() }, &[x.clone(), w.clone()], "C3", "dilation");
    let huge = Conv { padding_low: vec![usize::MAX, 0], ..op.clone() };
    refused(huge, &[x.clone(), w.clone()], "C3", "padding_low");
    refused(Conv { groups: 2, ..op.clone() }, &[x.clone(), w.clone()], "C4", "x has 4 channels, w takes 8");
    refused(Conv { groups: 0, ..op.clone() }, &[x.clone(), w.clone()], "C4", "at least 1");
    refused(Conv { groups: 2, ..op.clone() }, &[x.clone(), f32(&[3, 2, 3, 3])], "C4", "do not divide 3");
    refused(op.clone(), &[x.clone(), f32(&[2, 4, 3, 7])], "C5", "spans 7 elements");
    refused(op.clone(), &[x.clone(), f32(&[2, 4, 0, 3])], "C5", "found 0");
    refused(Conv { bias: true, ..op }, &[x, w, f32(&[3])], "C6", "f32[2]");
}

#[test]
fn conv_transpose_names_what_it_refuses() {
    let op = ConvTranspose2d::plain(1);
    let (x, w) = (f32(&[1, 4, 5]), f32(&[4, 2, 3]));
    refused(op.clone(), &[x.clone(), f32(&[3, 2, 3])], "C4", "x has 4 channels, w takes 3");
    refused(ConvTranspose2d { groups: 3, ..op.clone() }, &[x.clone(), w.clone()], "C4", "do not divide 4");
    let cut = ConvTranspose2d { padding_low: vec![9], ..op.clone() };
    refused(cut, &[x.clone(), w.clone()], "C5", "extent -2");
    refused(op.clone(), &[f32(&[1, 4, 0]), w.clone()], "C5", "must not be 0");
    let far = ConvTranspose2d { dilation: vec![1 << 30], ..op.clone() };
    refused(far, &[x.clone(), w.clone()], "C5", "31 bits");
    refused(ConvTranspose2d { output_padding: vec![], ..op }, &[x, w], "C3", "output_padding");
}

#[test]
fn pool_names_what_it_refuses() {
    let op = Pool::tiles(PoolKind::Mean, &[2, 2]);
    let x = [f32(&[1, 4, 5])];
    refused(op.clone(), &[TensorType::new(DType::I32, [4usize, 5])], "C1", "mean pool does not take i32");
    refused(op.clone(), &[f32(&[4])], "C2", "not more than the axes");
    refused(Pool { window: vec![2, 0], ..op.clone() }, &x, "C4", "found 0");
    refused(Pool { stride: vec![2], ..op.clone() }, &x, "C3", "stride");
    refused(Pool { window: vec![5, 2], ..op.clone() }, &x, "C4", "spans 5");
    refused(Pool { norm: Some(Real(2.0)), ..op }, &x, "C5", "norm");
    let max = Pool { count_include_pad: true, ..Pool::tiles(PoolKind::Max, &[2, 2]) };
    refused(max, &x, "C5", "no meaning for max");
}

#[test]
fn resize_names_what_it_refuses() {
    let op = Resize::linear([1], [Dim::from(4)]);
    let x = [f32(&[2, 3])];
    refused(Resize::linear([2], [Dim::from(4)]), &x, "C1", "axis 2");
    refused(Resize::linear([1], [Dim::from(-1)]), &x, "C1", "negative");
    refused(Resize::linear([1], [Dim::from(1i64 << 40)]), &x, "C1", "is over");
    refused(op.clone(), &[TensorType::new(DType::U8, [2usize, 3])], "C2", "u8");
    refused(Resize { scales: vec![Real(-1.0)], ..op.clone() }, &x, "C3", "positive");
    let symbolic = TensorType::new(DType::F32, Shape::new([Dim::from(2), Dim::from("W")]));
    refused(Resize { scales: vec![Real(2.0)], ..op.clone() }, &[symbolic], "C3", "static");
    refused(op.clone(), &[f32(&[2, 0])], "C4", "cannot become 4");
    refused(Resize { cubic_coefficient: Some(Real(1.0)), ..op.clone() }, &x, "C5", "cubic");
    refused(Resize { rounding: None, ..Resize::nearest([1], [Dim::from(4)]) }, &x, "C5", "rounding");
}

#[test]
fn extents_follow_symbols() {
    let image = |channels: usize| {
        let dims = [Dim::from("B"), Dim::from(channels), Dim::from("H"), Dim::from("W")];
        TensorType::new(DType::F32, Shape::new(dims))
    };
    let same = Conv { padding_low: vec![1, 1], padding_high: vec![1, 1], ..Conv::plain(2) };
    assert_eq!(shape(same.clone(), &[image(3), f32(&[8, 3, 3, 3])]), "[B, 8, H, W]");
    let patches = Conv { stride: vec![4, 4], ..Conv::plain(2) };
    assert_eq!(
        shape(patches, &[image(3), f32(&[8, 3, 4, 4])]),
        "[B, 8, floordiv(H - 4, 4) + 1, floordiv(W - 4, 4) + 1]"
    );
    let double = ConvTranspose2d { stride: vec![2, 2], ..ConvTranspose2d::plain(2) };
    assert_eq!(shape(double, &[image(3), f32(&[3, 8, 2, 2])]), "[B, 8, 2*H, 2*W]");
    let pool = Pool {
        stride: vec![1, 1],
        padding_low: vec![1, 1],
        padding_high: vec![1, 1],
        ..Pool::tiles(PoolKind::Max, &[3, 3])
    };
    assert_eq!(shape(pool, &[image(3)]), "[B, 3, H, W]");
}
