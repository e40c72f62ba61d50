//! What attention and rotary embedding refuse, and laws that hold between
//! their forms.

use rlx_ir::attr::Real;
use rlx_ir::interpret::evaluate_op;
use rlx_ir::ops::{Alignment, Attention, AttentionLayout, MaskKind, Rope, RopeStyle};
use rlx_ir::sample::{Generator, fill_literal};
use rlx_ir::{DType, Dim, Literal, Op, Shape, TensorType};

fn f32(dims: &[usize]) -> TensorType {
    TensorType::new(DType::F32, dims)
}

fn fill(ty: &TensorType, seed: u64) -> Literal {
    fill_literal(ty, rlx_ir::op::Fill::Any, &mut Generator::new(seed))
}

/// Expects the violation `constraint` with a message that holds `part`.
fn refused(op: impl Into<Op>, operands: &[TensorType], constraint: &str, part: &str) {
    let op = op.into();
    let violation = op.infer(&operands.iter().collect::<Vec<_>>()).expect_err(part);
    assert_eq!(violation.constraint, constraint, "{violation}");
    assert!(violation.message.contains(part), "{violation} does not say {part:?}");
}

fn run(op: &Attention, operands: &[Literal]) -> Vec<Literal> {
    evaluate_op(&op.clone().into(), &operands.iter().collect::<Vec<_>>()).unwrap()
}

#[test]
fn attention_names_what_it_refuses() {
    let base = Attention::heads(4, 2);
    let (q, k, v) = (f32(&[1, 4, 3, 8]), f32(&[1, 2, 5, 8]), f32(&[1, 2, 5, 6]));
    let with = |index: usize, ty: TensorType| {
        let mut operands = vec![q.clone(), k.clone(), v.clone()];
        operands[index] = ty;
        operands
    };
    let plus = |ty: TensorType| vec![q.clone(), k.clone(), v.clone(), ty];
    refused(base.clone(), &with(1, TensorType::new(DType::F16, [1usize, 2, 5, 8])), "C1", "f16");
    refused(base.clone(), &with(0, f32(&[1, 3, 32])), "C2", "rank 4");
    let packed = base.clone().layout(AttentionLayout::Packed);
    let operands = [f32(&[1, 3, 30]), f32(&[1, 5, 16]), f32(&[1, 5, 12])];
    refused(packed, &operands, "C2", "30 does not divide into 4 heads");
    refused(base.clone(), &with(0, f32(&[1, 3, 3, 8])), "C3", "q has 3 heads, the op says 4");
    refused(Attention::heads(4, 3), &[q.clone(), f32(&[1, 3, 5, 8]), f32(&[1, 3, 5, 6])], "C3", "multiple");
    refused(Attention::heads(0, 2), &with(0, q.clone()), "C3", "found 0");
    refused(base.clone(), &with(1, f32(&[1, 2, 4, 8])), "C4", "k has 4 keys, v has 5");
    refused(base.clone(), &with(1, f32(&[1, 2, 5, 7])), "C4", "q has head extent 8, k has 7");
    refused(base.clone(), &with(0, f32(&[2, 4, 3, 8])), "C4", "q has batch extent 2, k has 1");
    let symbolic = |heads: i64, keys: i64| {
        let dims = [Dim::from(1), Dim::from(heads), Dim::from(keys), Dim::from("D")];
        TensorType::new(DType::F32, Shape::new(dims))
    };
    refused(base.clone(), &[symbolic(4, 3), symbolic(2, 5), v.clone()], "C5", "set scale");
    refused(base.clone().mask_kind(MaskKind::Custom), &with(0, q.clone()), "C6", "needs the operand mask");
    let masked = |kind| Attention { mask: true, ..base.clone().mask_kind(kind) };
    refused(masked(MaskKind::None), &plus(f32(&[3, 5])), "C6", "takes no mask");
    refused(masked(MaskKind::Custom), &plus(f32(&[3, 5])), "C6", "takes a bool mask");
    refused(masked(MaskKind::Bias), &plus(TensorType::new(DType::F64, [3usize, 5])), "C6", "f64");
    refused(masked(MaskKind::Causal), &plus(f32(&[3, 4])), "C6", "does not broadcast");
    refused(base.clone().sliding_window(0), &with(0, q.clone()), "C7", "at least 1");
    refused(Attention { window: 2, ..base.clone() }, &with(0, q.clone()), "C7", "window is 2");
    let lengths = Attention { kv_lengths: true, ..base.clone() };
    refused(lengths.clone(), &plus(f32(&[1])), "C8", "i32, i64 or u32");
    refused(lengths, &plus(TensorType::new(DType::I32, [2usize])), "C8", "must be [1]");
    let paged = Attention { block_table: true, ..base.clone() };
    refused(paged, &plus(TensorType::new(DType::I32, [2usize, 3])), "C9", "must be [1, blocks]");
    let sinks = Attention { sinks: true, ..base.clone() };
    refused(sinks, &plus(f32(&[2])), "C10", "f32[4]");
    refused(Attention { softcap: Some(Real(0.0)), ..base }, &with(0, q.clone()), "C11", "softcap");
}

#[test]
fn values_outside_their_range_are_faults() {
    let op = Attention { kv_lengths: true, ..Attention::heads(1, 1) };
    let [q, kv] = [f32(&[2, 1, 1, 2]), f32(&[2, 1, 4, 2])].map(|ty| fill(&ty, 1));
    let lengths = Literal::ints(DType::I32, &[2], &[4, 5]).expect("one value per element");
    let fault = evaluate_op(&op.clone().into(), &[&q, &kv, &kv, &lengths]).unwrap_err();
    assert_eq!(fault.0, "kv_lengths[1] is 5, outside [0, 5)");
    let paged = Attention { block_table: true, ..op };
    let lengths = Literal::ints(DType::I32, &[2], &[3, 8]).expect("one value per element");
    let table = Literal::ints(DType::I32, &[2, 2], &[0, -1, 1, 2]).expect("one value per element");
    let fault = evaluate_op(&paged.into(), &[&q, &kv, &kv, &lengths, &table]).unwrap_err();
    assert_eq!(fault.0, "block_table[1, 1] is 2, outside [0, 2)");
}

#[test]
fn a_fully_masked_row_is_zero() {
    let op = Attention { kv_lengths: true, with_lse: true, ..Attention::heads(1, 1) };
    let [q, kv] = [f32(&[1, 1, 2, 2]), f32(&[1, 1, 3, 2])].map(|ty| fill(&ty, 2));
    let nothing = Literal::ints(DType::I32, &[1], &[0]).expect("one value per element");
    let results = run(&op, &[q.clone(), kv.clone(), kv.clone(), nothing]);
    assert_eq!(results[0].to_f64s(), vec![0.0; 4]);
    assert_eq!(results[1].to_f64s(), vec![f64::NEG_INFINITY; 2]);
    // Two queries at the end of one key: the first stands before it.
    let causal = Attention { kv_lengths: false, ..op.mask_kind(MaskKind::Causal) };
    let [one] = [f32(&[1, 1, 1, 2])].map(|ty| fill(&ty, 3));
    let y = run(&causal, &[q.clone(), one.clone(), one.clone()])[0].to_f64s();
    assert_eq!(y, [vec![0.0; 2], one.to_f64s()].concat());
    let start = Attention { alignment: Alignment::Start, ..causal };
    let y = run(&start, &[q, one.clone(), one.clone()])[0].to_f64s();
    assert_eq!(y, [one.to_f64s(), one.to_f64s()].concat());
}

#[test]
fn decoding_step_by_step_gives_what_the_whole_prompt_gives() {
    let (heads, steps, capacity, width) = (2, 4, 6, 3);
    let op = Attention::heads(heads, 1).mask_kind(MaskKind::Causal).layout(AttentionLayout::Bshd);
    let q = fill(&f32(&[1, steps, heads, width]), 4);
    let (k, v) = (fill(&f32(&[1, capacity, 1, width]), 5), fill(&f32(&[1, capacity, 1, width]), 6));
    let prefix = |x: &Literal, from: usize, to: usize, row: usize, dims: &[usize]| {
        Literal::from_bytes(DType::F32, dims, &x.bytes()[4 * from * row..4 * to * row]).unwrap()
    };
    let cut = |x: &Literal| prefix(x, 0, steps, width, &[1, steps, 1, width]);
    let whole = run(&op, &[q.clone(), cut(&k), cut(&v)]);
    let cached = Attention { kv_lengths: true, ..op };
    let mut stepwise = vec![];
    for step in 0..steps {
        let query = prefix(&q, step, step + 1, heads * width, &[1, 1, heads, width]);
        let length = Literal::ints(DType::I64, &[1], &[step as i128 + 1]).expect("one value per element");
        stepwise.extend(run(&cached, &[query, k.clone(), v.clone(), length])[0].to_f64s());
    }
    assert_eq!(stepwise, whole[0].to_f64s());
}

#[test]
fn rope_names_what_it_refuses() {
    let op = Rope { axis: 1, head_dim: 4, n_rot: 4, style: RopeStyle::HalfSplit, positions: false };
    let (x, table) = (f32(&[2, 3, 8]), f32(&[3, 2]));
    let operands = |x: &TensorType, cos: &TensorType| vec![x.clone(), cos.clone(), cos.clone()];
    refused(op.clone(), &[x.clone(), table.clone(), f32(&[2, 3])], "C1", "sin is");
    refused(op.clone(), &operands(&x, &TensorType::new(DType::F64, [3usize, 2])), "C1", "f64");
    refused(Rope { axis: 2, ..op.clone() }, &operands(&x, &table), "C2", "axis 2");
    refused(Rope { head_dim: 3, ..op.clone() }, &operands(&x, &table), "C3", "head_dim 3");
    refused(Rope { n_rot: 3, ..op.clone() }, &operands(&x, &table), "C3", "n_rot 3");
    refused(op.clone(), &operands(&x, &f32(&[4, 2])), "C4", "must be f32[3, 2]");
    let placed = Rope { positions: true, ..op.clone() };
    let plus = |ty: TensorType| [operands(&x, &table), vec![ty]].concat();
    refused(placed.clone(), &plus(TensorType::new(DType::I32, [2usize])), "C5", "must be i32[3]");
    refused(placed.clone(), &plus(f32(&[3])), "C5", "i32, i64 or u32");
    let flat = Rope { axis: 0, ..op };
    refused(flat, &operands(&f32(&[3, 8]), &f32(&[3, 3, 2])), "C6", "axis 1 or more");
    let [x, table] = [x, table].map(|ty| fill(&ty, 7));
    let positions = Literal::ints(DType::I32, &[3], &[0, 1, 3]).expect("one value per element");
    let fault = evaluate_op(&placed.into(), &[&x, &table, &table, &positions]).unwrap_err();
    assert_eq!(fault.0, "positions[2] is 3, outside [0, 3)");
}
