//! The op list. Adding an op is one file in a family folder and one line below.

use crate::accuracy::Accuracy;
use crate::attr::Attr;
use crate::derive::{BoundBatch, BoundJvp, BoundVjp};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::{Graph, Value};
use crate::layout::Layout;
use crate::literal::Literal;
use crate::op::{
    AttrProblem, DecomposeRule, EvalRule, Evaluated, Inferred, Judgements, Meaning, OpDef, OpSpec, RangeRule,
    ScalarRule, ViewRule,
};
use crate::scalar::{ScalarProgram, ScalarValue};
use crate::shape::TensorType;
use crate::value_range::ValueRange;

mod addressing;
pub mod bodies;
mod complex_parts;
mod cumulative;
mod cumulative_derivative;
mod fused_layers;
mod fused_residual;
mod matrices;
mod normalise;
mod ordering;
mod packing;
mod participants;
pub mod philox;
mod prelude;
mod quantisation;
mod recurrence;
mod shared;
mod splatting;
mod window;
pub use addressing::*;
pub use attention::attention::{Alignment, AttentionExtents, AttentionLayout, AttentionOperands, MaskKind};
pub use attention::rope::RopeStyle;
pub use control::scan::Checkpoint;
pub use conv::grid_sample::{GridMode, GridPadding};
pub use conv::pool::PoolKind;
pub use conv::resize::{CoordinateMode, NearestRounding, ResizeMode};
pub use cumulative::{Cumulative, CumulativeKind};
pub use elementwise::activation::ActivationKind;
pub use elementwise::binary::BinaryKind;
pub use elementwise::compare::CompareKind;
pub use fused::fused_transformer_layer::NormPosition;
pub use index::dynamic_update_slice::axes_to_front;
pub use index::scatter_nd::{ScatterKind, check_vectors, vector_range, whole_vectors};
pub(crate) use packing::pack_rows;
pub use quantisation::check_whole_units;
pub use quantised::fake_quantize::{ScaleMode, StraightThrough};
pub use recurrence::RecurrentDirection;
pub use reduce::arg_reduce::ArgReduceKind;
pub use reduce::reduce::ReduceKind;
pub use shape::pad::PadMode;
pub use shared::*;
pub use spectra::fft::FftNorm;
pub use window::WindowAxis;

macro_rules! ops {
    ($($family:ident { $($module:ident :: $ty:ident),* $(,)? })*) => {
        $(
            #[doc = concat!("Ops of the `", stringify!($family), "` family.")]
            pub mod $family { $(pub mod $module;)* }
            $(pub use $family::$module::$ty;)*
        )*
        /// Every op as a value.
        #[derive(Clone, PartialEq, Eq, Hash, Debug)]
        pub enum Op { $($(#[doc = concat!("See [`struct@", stringify!($ty), "`].")] $ty($ty)),*),* }
        /// Every op kind.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum OpKind { $($(#[doc = concat!("See [`struct@", stringify!($ty), "`].")] $ty),*),* }
        $($(impl From<$ty> for Op { fn from(op: $ty) -> Op { Op::$ty(op) } })*)*
        impl OpKind {
            /// Every kind, in list order.
            pub const ALL: &'static [OpKind] = &[$($(OpKind::$ty),*),*];
            /// Names and prose.
            pub const fn def(self) -> &'static OpDef { match self { $($(OpKind::$ty => &$ty::DEF),*),* } }
            /// Uses that cover the attribute corners.
            pub fn samples(self) -> Vec<crate::op::Sample<Op>> {
                let read = match self { $($(OpKind::$ty => $ty::SAMPLES.read($ty::from_attrs).map(|all| all.into_iter().map(|sample| sample.map(Op::$ty)).collect())),*),* };
                read.expect("every generic test reads the samples")
            }
            /// How it is differentiated and batched, in words.
            pub const fn judgements(self) -> Judgements { match self { $($(OpKind::$ty => Judgements::of::<$ty>()),*),* } }
            /// The op of this kind with the given attributes.
            ///
            /// # Errors
            /// A missing, unknown or ill-typed attribute.
            pub fn from_attrs(self, attrs: &[(String, Attr)]) -> Result<Op, AttrProblem> {
                match self { $($(OpKind::$ty => $ty::from_attrs(attrs).map(Op::$ty)),*),* }
            }
        }
        impl Op {
            /// The kind.
            pub const fn kind(&self) -> OpKind { match self { $($(Op::$ty(_) => OpKind::$ty),*),* } }
            /// Attributes in declaration order.
            pub fn attrs(&self) -> Vec<(&'static str, Attr)> { match self { $($(Op::$ty(op) => op.attrs()),*),* } }
            /// Names of the optional operands that are given.
            pub fn optional_given(&self) -> Vec<&'static str> { match self { $($(Op::$ty(op) => op.optional_given()),*),* } }
            /// The op with every symbolic dim in its attributes replaced.
            pub fn map_dims(&self, map: &dyn Fn(&Dim) -> Dim) -> Op { match self { $($(Op::$ty(op) => Op::$ty(op.map_dims(map))),*),* } }
            /// Accuracy class.
            pub fn accuracy(&self) -> Accuracy { match self { $($(Op::$ty(op) => $ty::ACCURACY(op)),*),* } }
            fn infer_results(&self, operands: &[&TensorType]) -> Inferred { match self { $($(Op::$ty(op) => op.infer(operands)),*),* } }
            /// Where the meaning comes from, bound to this op.
            pub fn meaning(&self) -> BoundMeaning<'_> { match self { $($(Op::$ty(op) => BoundMeaning::of(op)),*),* } }
            /// The derivative by the operands, bound to this op.
            pub fn vjp(&self) -> BoundVjp<'_> { match self { $($(Op::$ty(op) => BoundVjp::of(op)),*),* } }
            /// The derivative of the results, bound to this op.
            pub fn jvp(&self) -> BoundJvp<'_> { match self { $($(Op::$ty(op) => BoundJvp::of(op)),*),* } }
            /// The op on a batch, bound to this op.
            pub fn batch(&self) -> BoundBatch<'_> { match self { $($(Op::$ty(op) => BoundBatch::of(op)),*),* } }
        }
    };
}

ops! {
    leaf { input::Input, param::Param, state::State, constant::Constant }
    elementwise {
        activation::Activation,
        binary::Binary,
        cast::Cast,
        compare::Compare,
        r#where::Where,
        bitcast::Bitcast,
        clamp::Clamp,
        elementwise_region::ElementwiseRegion,
        activation_backward::ActivationBackward,
    }
    shape {
        reshape::Reshape,
        transpose::Transpose,
        narrow::Narrow,
        slice::Slice,
        expand::Expand,
        concat::Concat,
        iota::Iota,
        reverse::Reverse,
        pad::Pad,
        tile::Tile,
        roll::Roll,
        one_hot::OneHot,
        trilu::Trilu,
        barrier::Barrier,
    }
    index {
        gather::Gather,
        scatter_nd::ScatterNd,
        dynamic_update_slice::DynamicUpdateSlice,
        kv_append::KvAppend,
        gather_elements::GatherElements,
        gather_nd::GatherNd,
        scatter_add::ScatterAdd,
        scatter_elements::ScatterElements,
        dynamic_slice::DynamicSlice,
    }
    reduce {
        reduce::Reduce,
        softmax::Softmax,
        arg_reduce::ArgReduce,
        cumsum::Cumsum,
        cum_prod::CumProd,
        cum_max::CumMax,
        cum_min::CumMin,
        cum_log_sum_exp::CumLogSumExp,
        top_k::TopK,
        sort::Sort,
        arg_sort::ArgSort,
        log_softmax::LogSoftmax,
    }
    linear {
        matmul::MatMul,
        lora_matmul::LoraMatMul,
        dot_general::DotGeneral,
        dense_solve::DenseSolve,
        triangular_solve::TriangularSolve,
        cholesky::Cholesky,
        qr::Qr,
        svd::Svd,
        eigh::Eigh,
        det::Det,
        log_det::LogDet,
    }
    norm {
        layer_norm::LayerNorm,
        layer_norm2d::LayerNorm2d,
        group_norm::GroupNorm,
        rms_norm::RmsNorm,
        batch_norm::BatchNorm,
        batch_norm_inference::BatchNormInference,
        instance_norm::InstanceNorm,
        layer_norm_backward::LayerNormBackward,
        rms_norm_backward::RmsNormBackward,
    }
    fused {
        fused_matmul_bias_act::FusedMatMulBiasAct,
        fused_swiglu::FusedSwiGLU,
        fused_attention_block::FusedAttentionBlock,
        fused_transformer_layer::FusedTransformerLayer,
        fused_residual_ln::FusedResidualLN,
        fused_residual_rms_norm::FusedResidualRmsNorm,
    }
    search {
        non_zero::NonZero,
        unique::Unique,
        non_max_suppression::NonMaxSuppression,
    }
    random {
        random_bits::RandomBits,
        random_uniform::RandomUniform,
        random_normal::RandomNormal,
        random_split::RandomSplit,
        random_fold_in::RandomFoldIn,
        sample::Sample,
    }
    spectra {
        real::Real,
        imag::Imag,
        complex::Complex,
        conjugate::Conjugate,
        complex_norm_sq::ComplexNormSq,
        complex_norm_sq_backward::ComplexNormSqBackward,
        fft::Fft,
    }
    attention {
        attention::Attention,
        rope::Rope,
        axial_rope2d::AxialRope2d,
        attention_backward::AttentionBackward,
    }
    loss {
        softmax_cross_entropy_with_logits::SoftmaxCrossEntropyWithLogits,
        softmax_cross_entropy_backward::SoftmaxCrossEntropyBackward,
    }
    quantised {
        decode_storage::DecodeStorage,
        encode_storage::EncodeStorage,
        dequantize::Dequantize,
        quantize::Quantize,
        dequant_matmul::DequantMatMul,
        qmatmul::QMatMul,
        qconv2d::QConv2d,
        fake_quantize::FakeQuantize,
        fake_quantize_backward::FakeQuantizeBackward,
    }
    experts {
        grouped_matmul::GroupedMatMul,
        dequant_grouped_matmul::DequantGroupedMatMul,
        dequant_moe_weights::DequantMoEWeights,
    }
    conv {
        conv::Conv,
        conv_transpose2d::ConvTranspose2d,
        pool::Pool,
        resize::Resize,
        resize_nearest2x::ResizeNearest2x,
        grid_sample::GridSample,
    }
    collective {
        all_reduce::AllReduce,
        all_gather::AllGather,
        reduce_scatter::ReduceScatter,
        all_to_all::AllToAll,
        broadcast::Broadcast,
    }
    splat {
        gaussian_splat_prepare::GaussianSplatPrepare,
        gaussian_splat_rasterize::GaussianSplatRasterize,
        gaussian_splat_render::GaussianSplatRender,
        gaussian_splat_render_backward::GaussianSplatRenderBackward,
    }
    sequence {
        rnn::Rnn,
        gru::Gru,
        lstm::Lstm,
        selective_scan::SelectiveScan,
        gated_delta_net::GatedDeltaNet,
    }
    control {
        r#if::If,
        r#while::While,
        scan::Scan,
        custom_fn::CustomFn,
        custom::Custom,
    }
}

impl OpKind {
    /// The kind whose mnemonic is `name`.
    pub fn parse(name: &str) -> Option<OpKind> {
        OpKind::ALL.iter().copied().find(|kind| kind.def().name == name)
    }
}

impl std::fmt::Display for OpKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.def().name)
    }
}

impl Op {
    /// Names and prose.
    pub const fn def(&self) -> &'static OpDef {
        self.kind().def()
    }

    /// Result types.
    ///
    /// # Errors
    /// A wrong number of operands (`arity`), the constraint they violate, or a result that no
    /// machine can hold (`size`).
    pub fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let def = self.def();
        let fixed = def.operands.len() + self.optional_given().len();
        let found = operands.len();
        let fits = if def.variadic.is_some() { found >= fixed } else { found == fixed };
        crate::require!("arity", fits, "expected {} operands, found {found}", OperandCount(self));
        let results = self.infer_results(operands)?;
        for ty in &results {
            let fits = ty.fits();
            crate::require!("size", fits, "{ty} has extents whose product is beyond 2^48 elements");
        }
        Ok(results)
    }

    /// What an elementwise op computes per element of operands of these dtypes, one program input per
    /// operand; `None` for other ops.
    pub fn scalar_program(&self, operands: &[DType]) -> Option<ScalarProgram> {
        let rule = self.meaning().scalar?;
        let mut program = ScalarProgram::new(operands.to_vec());
        let inputs: Vec<_> = (0..operands.len()).map(|index| program.input(index)).collect();
        program.outputs = rule(&mut program, &inputs).into_iter().map(|value| value.0).collect();
        Some(program)
    }

    /// Does an attribute hold a dim that is not a constant?
    pub fn has_symbols(&self) -> bool {
        let found = std::cell::Cell::new(false);
        self.map_dims(&|dim: &Dim| {
            found.set(found.get() || dim.as_static().is_none());
            dim.clone()
        });
        found.get()
    }

    /// The name of an input, param or state.
    pub fn leaf_name(&self) -> Option<&str> {
        match self {
            Op::Input(op) => Some(&op.name),
            Op::Param(op) => Some(&op.name),
            Op::State(op) => Some(&op.name),
            _ => None,
        }
    }

    /// The same leaf under another name; other ops stay as they are.
    pub fn with_leaf_name(&self, name: &str) -> Op {
        let mut op = self.clone();
        match &mut op {
            Op::Input(op) => op.name = name.into(),
            Op::Param(op) => op.name = name.into(),
            Op::State(op) => op.name = name.into(),
            _ => {}
        }
        op
    }
}

struct OperandCount<'a>(&'a Op);
impl std::fmt::Display for OperandCount<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let def = self.0.def();
        let mut names: Vec<_> = def.operands.to_vec();
        names.extend(self.0.optional_given());
        match def.variadic {
            Some(name) => write!(f, "at least {} ({}, {name}..)", names.len(), names.join(", ")),
            None if names.is_empty() => f.write_str("0"),
            None => write!(f, "{} ({})", names.len(), names.join(", ")),
        }
    }
}

/// A [`ScalarRule`] bound to an op.
pub type BoundScalar<'a> = Box<dyn Fn(&mut ScalarProgram, &[ScalarValue]) -> Vec<ScalarValue> + 'a>;
/// A [`ViewRule`] bound to an op.
pub type BoundView<'a> = Box<dyn Fn(&Layout, &TensorType) -> Option<Layout> + 'a>;
/// An [`EvalRule`] bound to an op.
pub type BoundEval<'a> = Box<dyn Fn(&[&Literal]) -> Evaluated + 'a>;
/// A [`RangeRule`] bound to an op.
pub type BoundRanges<'a> = Box<dyn Fn(&[&TensorType]) -> Vec<ValueRange> + 'a>;
/// A [`DecomposeRule`] bound to an op.
pub type BoundDecompose<'a> = Box<dyn Fn(&mut Graph, &[Value]) -> Vec<Value> + 'a>;

/// An op's [`Meaning`] with the op's own type hidden.
pub struct BoundMeaning<'a> {
    /// Elementwise expansion.
    pub scalar: Option<BoundScalar<'a>>,
    /// Pure movement.
    pub view: Option<BoundView<'a>>,
    /// Direct evaluation.
    pub eval: Option<BoundEval<'a>>,
    /// Decomposition.
    pub decompose: Option<BoundDecompose<'a>>,
    /// The values of integer operands outside which the op faults.
    pub ranges: Option<BoundRanges<'a>>,
    /// The result is the first operand but for a part.
    pub updates_first: bool,
}

impl<'a> BoundMeaning<'a> {
    fn of<O: OpSpec>(op: &'a O) -> BoundMeaning<'a> {
        let Meaning { scalar, view, eval, decompose, ranges, updates_first } = O::MEANING;
        BoundMeaning {
            updates_first,
            ranges: ranges
                .map(|rule: RangeRule<O>| Box::new(move |types: &[&TensorType]| rule(op, types)) as _),
            scalar: scalar.map(|rule: ScalarRule<O>| {
                Box::new(move |program: &mut ScalarProgram, args: &[ScalarValue]| rule(op, program, args))
                    as _
            }),
            view: view.map(|rule: ViewRule<O>| {
                Box::new(move |layout: &Layout, ty: &TensorType| rule(op, layout, ty)) as _
            }),
            eval: eval.map(|rule: EvalRule<O>| Box::new(move |args: &[&Literal]| rule(op, args)) as _),
            decompose: decompose.map(|rule: DecomposeRule<O>| {
                Box::new(move |graph: &mut Graph, args: &[Value]| rule(op, graph, args)) as _
            }),
        }
    }
}
