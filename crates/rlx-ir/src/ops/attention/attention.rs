//! `attention`: scaled dot-product attention, with grouped heads, masks, a
//! key-value cache of fixed capacity and paged keys.
//!
//! The constraints and extents are here; `eval` and `decompose` hold the two
//! meanings, which generic tests compare.

use crate::ops::prelude::*;
use crate::value_range::UsedPart;

mod backward;
mod decompose;
mod eval;

attr_enum! {
    /// Order of the axes of `q`, `k`, `v` and `y`.
    AttentionLayout {
        /// [batch, heads, sequence, head extent].
        Bhsd = "bhsd",
        /// [batch, sequence, heads, head extent].
        Bshd = "bshd",
        /// [batch, sequence, heads x head extent].
        Packed = "packed",
    }
}

attr_enum! {
    /// Which keys a query sees.
    MaskKind {
        /// All of them.
        None = "none",
        /// Those up to its own position.
        Causal = "causal",
        /// The last `window` up to its own position, itself included.
        SlidingWindow = "sliding_window",
        /// Those that the boolean `mask` keeps.
        Custom = "custom",
        /// All of them, with `mask` added to the scores.
        Bias = "bias",
    }
}

attr_enum! {
    /// Where the queries stand among the keys.
    Alignment {
        /// The last query is at the last key.
        End = "end",
        /// The first query is at the first key.
        Start = "start",
    }
}

op! {
    /// `y = softmax(mask(softcap(scale q k^T))) v` for every batch and query head.
    ///
    /// `q[B, Hq, Sq, D]`, `k[B, Hkv, Skv, D]`, `v[B, Hkv, Skv, Dv]` give `y[B, Hq, Sq, Dv]`,
    /// with the axes as `layout` says. Query head `h` reads key head `h / (Hq / Hkv)`.
    ///
    /// Per score `s = scale q.k`: with `softcap`, `s = softcap tanh(s / softcap)`; then keys
    /// that the query does not see get `-inf` and an added mask is added; then softmax over
    /// the keys. A row without a visible key (all scores `-inf`) gives zeros. The element
    /// values of `k` and `v` at keys that are not seen must be finite.
    ///
    /// Position of query `i` of batch `b`: `i` with alignment `start`, `i + L - Sq` with `end`,
    /// where `L = kv_lengths[b]` if given, else `Skv`. A key `j >= L` is never seen. `causal`
    /// sees `j <= position`, `sliding_window` sees `position - window < j <= position`.
    ///
    /// `mask` broadcasts to `[B, Hq, Sq, Skv]`: boolean (true keeps) or float (added). It is
    /// required by `custom` (boolean) and `bias` (float), optional beside `causal` and
    /// `sliding_window` (either kind, both restrictions hold), refused by `none`.
    ///
    /// With `block_table[B, blocks]` the keys are paged: `k` and `v` hold `[num_blocks]` in
    /// place of the batch and `block_size` in place of the sequence, key `j` of batch `b` is
    /// row `j % block_size` of block `block_table[b, j / block_size]`, and
    /// `Skv = blocks block_size`. Entries of blocks past `L` may be anything.
    ///
    /// `sinks[Hq]` are extra scores per head that take part in the softmax and add nothing.
    /// With `with_lse` the second result is `log sum exp` of each row's scores, the sink
    /// included, `[B, Hq, Sq]` in every layout; `-inf` for a row without a visible key.
    ///
    /// (C1) `q`, `k` and `v` have one float dtype.
    /// (C2) Their ranks are those of `layout`; in `packed` the last extent divides into heads.
    /// (C3) The head extents are `num_heads` and `num_kv_heads`, 31 bits each, the first a multiple
    ///      of the second.
    /// (C4) The batch extents agree, and the key extents of `k` and `v`; so do the `D` of `q` and `k`.
    /// (C5) Without `scale` (which is then `1 / sqrt(D)`), `D` is static and not 0.
    /// (C6) `mask` is there as `mask_kind` says, has its dtype (an added one that of `q` or `f32`)
    ///      and broadcasts to `[B, Hq, Sq, Skv]`.
    /// (C7) `window` is at least 1 with `sliding_window` and 0 otherwise.
    /// (C8) `kv_lengths` is an integer `[B]`, each in `0 ..= Skv`.
    /// (C9) `block_table` is an integer `[B, blocks]`, each used entry in `0 .. num_blocks`; the
    ///      block size is static and not 0, and there is a block.
    /// (C10) `sinks` is `[Hq]` in the dtype of `q`.
    /// (C11) `softcap` is positive and finite; `scale` is finite.
    /// Half-precision scores and sums are in f32; `lse` is f32, or f64 where `q` is.
    attention: Attention(q, k, v)[mask, kv_lengths, block_table, sinks] -> [y, lse] {
        /// Order of the axes.
        layout: AttentionLayout,
        /// Query heads.
        num_heads: usize,
        /// Key and value heads.
        num_kv_heads: usize,
        /// Factor of the scores; none means `1 / sqrt(D)`.
        scale: Option<Real>,
        /// Bound of the scores, before the mask.
        softcap: Option<Real>,
        /// Which keys a query sees.
        mask_kind: MaskKind,
        /// Keys that a sliding window sees.
        window: usize,
        /// Where the queries stand among the keys.
        alignment: Alignment,
        /// Is the second result there?
        with_lse: bool,
    }
}

/// Extents of an attention, whatever its layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttentionExtents {
    /// Batches.
    pub batch: Dim,
    /// Queries per batch.
    pub queries: Dim,
    /// Keys per batch: the capacity where `kv_lengths` shortens them.
    pub keys: Dim,
    /// Extent of a query and key head.
    pub head: Dim,
    /// Extent of a value head.
    pub value_head: Dim,
    /// Keys per block, where `k` and `v` are paged.
    pub block_size: Option<Dim>,
}

/// Operands of [`Graph::attend`].
#[derive(Clone, Copy, Debug)]
pub struct AttentionOperands {
    /// Queries.
    pub q: Value,
    /// Keys.
    pub k: Value,
    /// Values.
    pub v: Value,
    /// Boolean or added mask.
    pub mask: Option<Value>,
    /// Number of keys that count, per batch.
    pub kv_lengths: Option<Value>,
    /// Blocks of each batch, where keys are paged.
    pub block_table: Option<Value>,
    /// Extra scores per head.
    pub sinks: Option<Value>,
}

impl AttentionOperands {
    /// Only queries, keys and values.
    pub fn new(q: Value, k: Value, v: Value) -> AttentionOperands {
        AttentionOperands { q, k, v, mask: None, kv_lengths: None, block_table: None, sinks: None }
    }
}

impl Graph {
    /// Appends `op` with the flags of its optional operands taken from `operands`.
    /// Gives `y`, and `lse` where the op has it.
    #[track_caller]
    pub fn attend(&mut self, op: Attention, operands: AttentionOperands) -> Vec<Value> {
        let AttentionOperands { q, k, v, mask, kv_lengths, block_table, sinks } = operands;
        let op = Attention {
            mask: mask.is_some(),
            kv_lengths: kv_lengths.is_some(),
            block_table: block_table.is_some(),
            sinks: sinks.is_some(),
            ..op
        };
        let optional = [mask, kv_lengths, block_table, sinks].into_iter().flatten();
        self.push_all(op, &[q, k, v].into_iter().chain(optional).collect::<Vec<_>>())
    }
}

/// Batch, sequence and head extent of one of `q`, `k` and `v`.
struct HeadDims {
    batch: Dim,
    sequence: Dim,
    head: Dim,
}

impl Attention {
    /// Lengths of at most the keys, and numbers of blocks in the part of the table that the lengths use.
    pub(super) fn ranges(&self, operands: &[&TensorType]) -> Vec<ValueRange> {
        let Ok(extents) = self.extents(operands) else { return vec![] };
        let lengths = self.operand_index("kv_lengths");
        let mut ranges = vec![];
        ranges.extend(lengths.map(|index| ValueRange::below(index, extents.keys + Dim::from(1))));
        let block = extents.block_size.as_ref().and_then(Dim::as_static).unwrap_or(1) as usize;
        ranges.extend(self.operand_index("block_table").map(|index| ValueRange {
            used: lengths.map(|lengths| UsedPart { lengths, step: block }),
            ..ValueRange::below(index, operands[1].shape[0].clone())
        }));
        ranges
    }

    /// Attention over `bhsd` operands with nothing masked and the default scale.
    pub fn heads(num_heads: usize, num_kv_heads: usize) -> Attention {
        Attention {
            layout: AttentionLayout::Bhsd,
            num_heads,
            num_kv_heads,
            scale: None,
            softcap: None,
            mask_kind: MaskKind::None,
            window: 0,
            alignment: Alignment::End,
            with_lse: false,
            mask: false,
            kv_lengths: false,
            block_table: false,
            sinks: false,
        }
    }

    /// The same attention in another layout.
    pub fn layout(self, layout: AttentionLayout) -> Attention {
        Attention { layout, ..self }
    }

    /// The same attention with another mask kind.
    pub fn mask_kind(self, mask_kind: MaskKind) -> Attention {
        Attention { mask_kind, ..self }
    }

    /// The same attention with a causal window of `window` keys.
    pub fn sliding_window(self, window: usize) -> Attention {
        Attention { mask_kind: MaskKind::SlidingWindow, window, ..self }
    }

    /// The operand called `name` among `operands`, where it is given.
    pub fn operand<T: Copy>(&self, operands: &[T], name: &str) -> Option<T> {
        self.operand_index(name).and_then(|index| operands.get(index)).copied()
    }

    /// The factor of the scores.
    pub fn scale_for(&self, head: &Dim) -> f64 {
        match (self.scale, head.as_static()) {
            (Some(scale), _) => scale.0,
            (None, Some(head)) => 1.0 / (head as f64).sqrt(),
            (None, None) => f64::NAN,
        }
    }

    /// Does a query see only keys up to its position?
    pub fn is_causal(&self) -> bool {
        matches!(self.mask_kind, MaskKind::Causal | MaskKind::SlidingWindow)
    }

    /// The extents that the operand types (in operand order) give.
    ///
    /// # Errors
    /// A violation of (C2), (C3), (C4) or (C9).
    pub fn extents(&self, operands: &[&TensorType]) -> Result<AttentionExtents, Violation> {
        let q = self.head_dims("q", operands[0], self.num_heads)?;
        let k = self.head_dims("k", operands[1], self.num_kv_heads)?;
        let v = self.head_dims("v", operands[2], self.num_kv_heads)?;
        require!("C4", q.head == k.head, "q has head extent {}, k has {}", q.head, k.head);
        require!("C4", k.sequence == v.sequence, "k has {} keys, v has {}", k.sequence, v.sequence);
        require!("C4", k.batch == v.batch, "k has batch extent {}, v has {}", k.batch, v.batch);
        let (batch, queries) = (q.batch, q.sequence);
        let extents = |keys, block_size| AttentionExtents {
            batch: batch.clone(),
            queries: queries.clone(),
            keys,
            head: q.head.clone(),
            value_head: v.head.clone(),
            block_size,
        };
        let Some(table) = self.operand(operands, "block_table") else {
            require!("C4", batch == k.batch, "q has batch extent {batch}, k has {}", k.batch);
            return Ok(extents(k.sequence, None));
        };
        check_index_dtype("C9", "block_table", table)?;
        require!(
            "C9",
            table.rank() == 2 && table.shape[0] == batch,
            "block_table must be [{batch}, blocks], found {table}"
        );
        let known = k.sequence.as_static().is_some_and(|size| size > 0);
        require!("C9", !k.batch.is(0), "there are no blocks of keys");
        require!("C9", known, "the block size must be static and at least 1, found {}", k.sequence);
        Ok(extents(table.shape[1].clone() * k.sequence.clone(), Some(k.sequence)))
    }

    fn head_dims(&self, name: &str, ty: &TensorType, heads: usize) -> Result<HeadDims, Violation> {
        let rank = if self.layout == AttentionLayout::Packed { 3 } else { 4 };
        require!("C2", ty.rank() == rank, "{name} in layout {} has rank {rank}, found {ty}", self.layout);
        let legal = heads > 0 && i32::try_from(heads).is_ok();
        require!("C3", legal, "the number of heads of {name} must be in 1 .. 2^31, found {heads}");
        let dims = ty.shape.dims();
        let at = |axis: usize| dims[axis].clone();
        let (batch, found, sequence, head) = match self.layout {
            AttentionLayout::Bhsd => (at(0), at(1), at(2), at(3)),
            AttentionLayout::Bshd => (at(0), at(2), at(1), at(3)),
            AttentionLayout::Packed => {
                let whole = Dim::from(heads);
                let rest = dims[2].modulo(&whole);
                require!("C2", rest.is(0), "{name}: {} does not divide into {heads} heads", dims[2]);
                (at(0), whole.clone(), at(1), dims[2].floor_div(&whole))
            }
        };
        require!("C3", found == Dim::from(heads), "{name} has {found} heads, the op says {heads}");
        Ok(HeadDims { batch, sequence, head })
    }

    /// Type of `y`.
    fn result_type(&self, dtype: DType, extents: &AttentionExtents) -> TensorType {
        let AttentionExtents { batch, queries, value_head, .. } = extents.clone();
        let heads = Dim::from(self.num_heads);
        let dims = match self.layout {
            AttentionLayout::Bhsd => vec![batch, heads, queries, value_head],
            AttentionLayout::Bshd => vec![batch, queries, heads, value_head],
            AttentionLayout::Packed => vec![batch, queries, heads * value_head],
        };
        TensorType::new(dtype, dims)
    }

    fn check_mask(&self, q: DType, scores: &Shape, mask: Option<&TensorType>) -> Result<(), Violation> {
        let kind = self.mask_kind;
        let Some(mask) = mask else {
            let optional = !matches!(kind, MaskKind::Custom | MaskKind::Bias);
            require!("C6", optional, "mask_kind {kind} needs the operand mask");
            return Ok(());
        };
        let added = mask.dtype == q || mask.dtype == DType::F32;
        let (fits, expected) = match kind {
            MaskKind::None => (false, "no mask; use mask_kind custom or bias"),
            MaskKind::Custom => (mask.dtype == DType::Bool, "a bool mask"),
            MaskKind::Bias => (added, "a mask in the dtype of q or f32"),
            MaskKind::Causal | MaskKind::SlidingWindow => {
                (added || mask.dtype == DType::Bool, "a mask in bool, the dtype of q or f32")
            }
        };
        require!("C6", fits, "mask_kind {kind} takes {expected}, found {mask}");
        let broadcast = mask.shape.broadcast(scores);
        require!("C6", broadcast.as_ref() == Some(scores), "mask {mask} does not broadcast to {scores}");
        Ok(())
    }

    fn check_numbers(&self, extents: &AttentionExtents) -> Result<(), Violation> {
        let windowed = self.mask_kind == MaskKind::SlidingWindow;
        require!(
            "C7",
            windowed == (self.window > 0),
            "window is {} with mask_kind {}; sliding_window needs at least 1, the others 0",
            self.window,
            self.mask_kind
        );
        let finite = self.scale.is_none_or(|scale| scale.0.is_finite());
        require!("C11", finite, "scale must be finite");
        let positive = self.softcap.is_none_or(|cap| cap.0.is_finite() && cap.0 > 0.0);
        require!("C11", positive, "softcap must be positive and finite");
        let known = self.scale.is_some() || extents.head.as_static().is_some_and(|head| head > 0);
        require!("C5", known, "head extent {} gives no default scale; set scale", extents.head);
        Ok(())
    }
}

impl OpSpec for Attention {
    const MEANING: Meaning<Self> =
        Meaning::composite_with_eval(decompose::decompose, eval::eval).checked(Self::ranges);
    const VJP: Vjp<Self> = Vjp::Saving(|op| Attention { with_lse: true, ..op.clone() }, backward::vjp);
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 256 };
    const SAMPLES: Samples<Self> = Samples::Made(samples);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let dtype = operands[0].dtype;
        let one = operands[..3].iter().all(|ty| ty.dtype == dtype);
        require!("C1", one, "q, k and v are {dtype}, {} and {}", operands[1].dtype, operands[2].dtype);
        require!("C1", dtype.is_float() && !dtype.is_storage_only(), "attention does not take {dtype}");
        let extents = self.extents(operands)?;
        let (heads, groups) = (self.num_heads, self.num_kv_heads);
        require!("C3", heads % groups == 0, "{heads} query heads are no multiple of {groups} key heads");
        self.check_numbers(&extents)?;
        let (batch, heads) = (extents.batch.clone(), Dim::from(heads));
        let scores =
            Shape::from(vec![batch.clone(), heads.clone(), extents.queries.clone(), extents.keys.clone()]);
        self.check_mask(dtype, &scores, self.operand(operands, "mask"))?;
        if let Some(lengths) = self.operand(operands, "kv_lengths") {
            check_index_dtype("C8", "kv_lengths", lengths)?;
            let fits = lengths.shape == Shape::from(vec![batch.clone()]);
            require!("C8", fits, "kv_lengths must be [{batch}], found {lengths}");
        }
        if let Some(sinks) = self.operand(operands, "sinks") {
            let expected = TensorType::new(dtype, vec![heads.clone()]);
            require!("C10", *sinks == expected, "sinks must be {expected}, found {sinks}");
        }
        let mut results = vec![self.result_type(dtype, &extents)];
        if self.with_lse {
            results.push(TensorType::new(lse_dtype(dtype), vec![batch, heads, extents.queries]));
        }
        Ok(results)
    }
}

pub(super) use backward::backward;

/// Dtype in which scores are summed and `lse` is given.
pub(super) fn lse_dtype(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// Extents of a sample in `bhsd` order: B, Sq, Skv, D, Dv.
pub(super) type SampleExtents = [usize; 5];

/// Types of `q`, `k` and `v` for `op`.
pub(super) fn sample_operands(
    op: &Attention,
    dtype: DType,
    [b, sq, skv, d, dv]: SampleExtents,
) -> Vec<TensorType> {
    let ty = |heads: usize, sequence: usize, head: usize| {
        let dims = match op.layout {
            AttentionLayout::Bhsd => vec![b, heads, sequence, head],
            AttentionLayout::Bshd => vec![b, sequence, heads, head],
            AttentionLayout::Packed => vec![b, sequence, heads * head],
        };
        TensorType::new(dtype, dims.as_slice())
    };
    vec![ty(op.num_heads, sq, d), ty(op.num_kv_heads, skv, d), ty(op.num_kv_heads, skv, dv)]
}

fn samples() -> Vec<Sample<Attention>> {
    let plain = |op: Attention, dtype, extents| {
        let operands = sample_operands(&op, dtype, extents);
        Sample::new(op, operands)
    };
    let base = || Attention::heads(2, 2);
    let extents = [2, 3, 5, 4, 2];
    let mut samples = vec![];
    for &layout in AttentionLayout::ALL {
        samples.push(plain(base().layout(layout), DType::F32, extents));
        let grouped = Attention { with_lse: true, ..Attention::heads(4, 2).layout(layout) };
        samples.push(plain(grouped.mask_kind(MaskKind::Causal), DType::F32, [1, 3, 5, 2, 3]));
    }
    for alignment in [Alignment::End, Alignment::Start] {
        for op in [base().mask_kind(MaskKind::Causal), base().sliding_window(2)] {
            let op = Attention { alignment, with_lse: true, ..op };
            samples.push(plain(op.clone(), DType::F32, extents));
            samples.push(plain(op, DType::F32, [1, 5, 3, 2, 2]));
        }
    }
    for dtype in [DType::F16, DType::BF16, DType::F64] {
        let op = Attention { with_lse: true, softcap: Some(Real(1.5)), scale: Some(Real(0.7)), ..base() };
        samples.push(plain(op, dtype, extents));
    }
    let scaled = Attention { scale: Some(Real(1.0)), with_lse: true, ..base() };
    for extents in [[0, 3, 5, 4, 2], [2, 0, 5, 4, 2], [2, 3, 0, 4, 2], [2, 3, 5, 0, 2], [2, 3, 5, 4, 0]] {
        samples.push(plain(scaled.clone(), DType::F32, extents));
    }
    samples.push(plain(Attention::heads(1, 1), DType::F32, [1, 1, 1, 1, 1]));
    samples.extend(mask_samples());
    samples.extend(cache_samples());
    samples
}

fn mask_samples() -> Vec<Sample<Attention>> {
    let mut samples = vec![];
    let masks: [&[usize]; 5] = [&[2, 4, 3, 5], &[2, 1, 1, 5], &[3, 5], &[1, 4, 1, 1], &[5]];
    for (kind, dtype) in [
        (MaskKind::Custom, DType::Bool),
        (MaskKind::Bias, DType::F32),
        (MaskKind::Causal, DType::Bool),
        (MaskKind::SlidingWindow, DType::F32),
    ] {
        for mask in masks {
            let window = if kind == MaskKind::SlidingWindow { 3 } else { 0 };
            let op = Attention {
                mask: true,
                window,
                with_lse: true,
                ..Attention::heads(4, 1).mask_kind(kind).layout(AttentionLayout::Bshd)
            };
            let mut operands = sample_operands(&op, DType::F32, [2, 3, 5, 2, 2]);
            operands.push(TensorType::new(dtype, mask));
            samples.push(Sample::new(op, operands));
        }
    }
    let op = Attention { mask: true, ..Attention::heads(2, 2).mask_kind(MaskKind::Bias) };
    let mut operands = sample_operands(&op, DType::F16, [1, 2, 3, 2, 2]);
    operands.push(TensorType::new(DType::F16, [2usize, 3]));
    samples.push(Sample::new(op, operands));
    samples
}

fn cache_samples() -> Vec<Sample<Attention>> {
    let mut samples = vec![];
    for kind in [MaskKind::None, MaskKind::Causal, MaskKind::SlidingWindow] {
        for (layout, alignment, sinks) in [
            (AttentionLayout::Bhsd, Alignment::End, false),
            (AttentionLayout::Bshd, Alignment::Start, true),
            (AttentionLayout::Packed, Alignment::End, true),
        ] {
            let window = if kind == MaskKind::SlidingWindow { 2 } else { 0 };
            let heads = Attention::heads(2, 1).layout(layout).mask_kind(kind);
            let op = Attention { kv_lengths: true, window, alignment, sinks, with_lse: true, ..heads };
            let mut operands = sample_operands(&op, DType::F32, [3, 2, 6, 2, 2]);
            operands.push(TensorType::new(DType::I32, [3usize]));
            if sinks {
                operands.push(TensorType::new(DType::F32, [2usize]));
            }
            samples.push(Sample::new(op.clone(), operands.clone()).fill(3, 0.0, 7.0));
            // Four blocks of two keys, three blocks per batch.
            let paged = Attention { block_table: true, ..op };
            for (index, width) in [(1, 2), (2, 2)] {
                let blocks = TensorType::new(DType::F32, [4usize, paged.num_kv_heads, 2, width]);
                operands[index] = match layout {
                    AttentionLayout::Bhsd => blocks,
                    AttentionLayout::Bshd => {
                        TensorType::new(DType::F32, [4usize, 2, paged.num_kv_heads, width])
                    }
                    AttentionLayout::Packed => {
                        TensorType::new(DType::F32, [4usize, 2, paged.num_kv_heads * width])
                    }
                };
            }
            operands.insert(4, TensorType::new(DType::I64, [3usize, 3]));
            samples.push(Sample::new(paged, operands).fill(3, 0.0, 7.0).fill(4, 0.0, 4.0));
        }
    }
    samples
}
