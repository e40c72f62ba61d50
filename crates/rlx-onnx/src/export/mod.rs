//! The exporter: graphs as ONNX models.
//!
//! Every op has one entry at most in the [`table`]; what has none, or none for its attributes and dtypes, is decomposed
//! by the pipeline, which asks the same table; elementwise ops without a name in ONNX are written out primitive by
//! primitive (`scalar`). What is left over is refused, all of it by name. Extents that are symbols become named extents
//! of the inputs; shapes that depend on them are computed by nodes from the shape of an input.

mod control;
mod conv;
mod elementwise;
mod index;
mod linear;
mod movement;
mod norm;
mod quantised;
mod reduce;
mod scalar;
mod sequence;
mod symbols;
mod table;
mod writer;

use crate::error::OnnxError;
use crate::model::NEWEST_OPSET;
use crate::proto::tensor_proto::{DataLocation, DataType};
use crate::proto::{GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorProto};
use bytes::Bytes;
use prost::Message;
use rlx_ir::{Diagnostic, Graph, Op, OpKind, TensorRef};
use rlx_opt::{Capabilities, CompileOptions, OptError, PassContext, Pipeline};
use rlx_weights::WeightLoader;
use std::io::Write;
use std::path::Path;
use writer::Writer;

/// The oldest opset that can be written.
pub const OLDEST_EXPORT_OPSET: i64 = 21;
/// External data begins at multiples of this many bytes.
const ALIGNMENT: usize = 64;
/// Most bytes of one protobuf message.
const LARGEST_MESSAGE: usize = i32::MAX as usize;

/// How a graph is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportOptions {
    /// Opset of ONNX's own domain, from [`OLDEST_EXPORT_OPSET`] to [`NEWEST_OPSET`]. Newer ones have more ops: what an
    /// older one lacks is decomposed or refused.
    pub opset: i64,
    /// Where large params are stored; `None` keeps all of them in the model.
    pub external: Option<ExternalData>,
}

impl Default for ExportOptions {
    fn default() -> ExportOptions {
        ExportOptions { opset: OLDEST_EXPORT_OPSET, external: None }
    }
}

/// A file beside the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalData {
    /// Its name, without a folder.
    pub file: String,
    /// Least bytes of a param that goes there.
    pub threshold: usize,
}

/// A written model.
#[derive(Clone, Debug)]
pub struct Exported<'w> {
    /// The bytes of the model.
    pub model: Vec<u8>,
    /// The file of external data, where params are there.
    pub external: Option<ExportedData<'w>>,
}

/// The content of a file of external data: params, borrowed from where they were loaded.
#[derive(Clone, Debug)]
pub struct ExportedData<'w> {
    /// Name of the file, beside the model.
    pub file: String,
    /// Bytes and where they begin, ascending; zeros lie between them.
    pub parts: Vec<(usize, &'w [u8])>,
}

impl ExportedData<'_> {
    /// Writes the content.
    ///
    /// # Errors
    /// What the destination reports.
    pub fn write(&self, to: &mut impl Write) -> std::io::Result<()> {
        let mut at = 0;
        for (start, bytes) in &self.parts {
            to.write_all(&vec![0; start - at])?;
            to.write_all(bytes)?;
            at = start + bytes.len();
        }
        to.flush()
    }
}

impl Exported<'_> {
    /// Writes the model to `path`, and its external data beside it.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), OnnxError> {
        let path = path.as_ref();
        let failed = |file: &Path, error: std::io::Error| OnnxError::file(file.display(), error.to_string());
        if let Some(data) = &self.external {
            let file = path.with_file_name(&data.file);
            let create = std::fs::File::create(&file);
            let written = create.and_then(|created| data.write(&mut std::io::BufWriter::new(created)));
            written.map_err(|error| failed(&file, error))?;
        }
        std::fs::write(path, &self.model).map_err(|error| failed(path, error))
    }
}

/// Writes `graph`, with its params from `weights`, as an ONNX model.
///
/// Inputs and outputs keep their names; params become initialisers. The meaning is that of the graph, but for what faults
/// at run time: an index that RLX refuses may count from the end in ONNX.
///
/// ```
/// use rlx_ir::{DType, Graph, Literal, TensorType};
/// use rlx_onnx::{ExportOptions, Model, export};
/// use rlx_weights::{BytesWeightLoader, WeightTensor};
///
/// let mut graph = Graph::new("affine");
/// let x = graph.input("x", TensorType::new(DType::F32, vec!["N".into(), rlx_ir::Dim::from(2)]));
/// let w = graph.param("w", TensorType::new(DType::F32, [2, 3]));
/// let y = graph.matmul(x, w, false, false);
/// graph.output("y", y);
/// let w = Literal::floats(DType::F32, &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// let weights = BytesWeightLoader::from_tensors(vec![WeightTensor::from_literal("w", &w)?])?;
///
/// let exported = export(&graph, &weights, &ExportOptions::default())?;
/// let model = Model::from_bytes(exported.model, "affine.onnx")?;
/// assert_eq!(model.opsets()[""], 21);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// An invalid graph; a param that `weights` lack; states, which ONNX does not have; nodes that neither the table nor
/// their definitions can say in ONNX, all of them; a model of more than 2 GiB without external data.
pub fn export<'w>(
    graph: &Graph,
    weights: &'w dyn WeightLoader,
    options: &ExportOptions,
) -> Result<Exported<'w>, OnnxError> {
    if !(OLDEST_EXPORT_OPSET..=NEWEST_OPSET).contains(&options.opset) {
        let message = format!("is {}; {OLDEST_EXPORT_OPSET} to {NEWEST_OPSET} can be written", options.opset);
        return Err(OnnxError::model("the opset", message));
    }
    rlx_ir::verify::verify(graph)?;
    refuse_states(graph)?;
    let graph = symbols::bind_params(graph, weights)?;
    let graph = legalise(graph, options.opset)?;
    let mut writer = Writer::new(options.opset, &graph);
    let mut data = ExternalParams::new(options);
    writer.leaves(&graph)?;
    for (id, node) in graph.nodes_of(OpKind::Param) {
        let Op::Param(param) = &node.op else { continue };
        let tensor = weights.tensor(&param.name)?;
        let name = writer.name_of(rlx_ir::Value::first(id));
        let proto = initialiser(&name, tensor, &mut data, options.opset)
            .map_err(|reason| OnnxError::model(format!("param {:?}", param.name), reason))?;
        writer.add_initialiser(proto);
    }
    writer.body(&graph)?;
    let proto = writer.finish(&graph)?;
    Ok(Exported { model: encoded(proto, options.opset)?, external: data.finish() })
}

/// Can the exporter write `op` on operands of these types, in this opset, without its definition?
pub fn exports_whole(op: &Op, operands: &[&rlx_ir::TensorType], opset: i64) -> bool {
    table::is_whole(op, operands, opset)
}

fn refuse_states(graph: &Graph) -> Result<(), OnnxError> {
    let states = graph.nodes_of(OpKind::State).filter_map(|(_, node)| node.op.leaf_name());
    let findings: Vec<Diagnostic> = states
        .map(|name| {
            Diagnostic::new(format!("state {name:?}"), "an ONNX model keeps nothing between runs")
                .hint("make it an input and its new content an output")
        })
        .collect();
    if findings.is_empty() { Ok(()) } else { Err(OnnxError::Export(findings)) }
}

/// The graph in ops of the table.
fn legalise(graph: Graph, opset: i64) -> Result<Graph, OnnxError> {
    let capabilities = Capabilities {
        name: "ONNX",
        fingerprint: format!("opset {opset}"),
        claim: table::claim_at(opset),
        ..Capabilities::reference()
    };
    let compile = CompileOptions::default();
    let context = PassContext { capabilities: &capabilities, options: &compile };
    let passes = "eliminate_dead_code, decompose_unclaimed, simplify_algebra, fold_constants, \
        merge_common_subexpressions, eliminate_dead_code";
    let pipeline: Pipeline = passes.parse().expect("these are passes of ours");
    pipeline.run(graph, &context, &mut |_, _| {}).map_err(|error| match error {
        OptError::Unsupported { nodes, .. } => OnnxError::Export(nodes),
        OptError::Invalid(error) => OnnxError::Ir(error),
        error => OnnxError::Runtime(rlx_runtime::RuntimeError::from(error)),
    })
}

/// Params that go into a file of their own.
struct ExternalParams<'w, 'o> {
    options: &'o ExportOptions,
    parts: Vec<(usize, &'w [u8])>,
    end: usize,
}

impl<'w, 'o> ExternalParams<'w, 'o> {
    fn new(options: &'o ExportOptions) -> ExternalParams<'w, 'o> {
        ExternalParams { options, parts: vec![], end: 0 }
    }

    fn finish(self) -> Option<ExportedData<'w>> {
        let file = self.options.external.as_ref()?.file.clone();
        (!self.parts.is_empty()).then_some(ExportedData { file, parts: self.parts })
    }
}

/// `tensor` as an initialiser.
fn initialiser<'w>(
    name: &str,
    tensor: TensorRef<'w>,
    data: &mut ExternalParams<'w, '_>,
    opset: i64,
) -> Result<TensorProto, String> {
    let mut proto = TensorProto {
        name: Some(name.to_string()),
        dims: tensor.dims.iter().map(|&dim| dim as i64).collect(),
        data_type: Some(writer::element_type(tensor.dtype, opset)? as i32),
        ..TensorProto::default()
    };
    match &data.options.external {
        Some(external) if tensor.bytes.len() >= external.threshold => {
            let offset = data.end.next_multiple_of(ALIGNMENT);
            let length = tensor.bytes.len();
            data.parts.push((offset, tensor.bytes));
            data.end = offset + length;
            proto.data_location = Some(DataLocation::External as i32);
            let entries = [
                ("location", external.file.clone()),
                ("offset", offset.to_string()),
                ("length", length.to_string()),
            ];
            let entry = |(key, value): (&str, String)| StringStringEntryProto {
                key: Some(key.into()),
                value: Some(value),
            };
            proto.external_data = entries.into_iter().map(entry).collect();
        }
        _ => proto.raw_data = Some(Bytes::copy_from_slice(tensor.bytes)),
    }
    Ok(proto)
}

fn encoded(graph: GraphProto, opset: i64) -> Result<Vec<u8>, OnnxError> {
    // The first version of the format that may hold this opset.
    let format = match opset {
        ..=22 => 10,
        23 => 11,
        24 => 12,
        25..=27 => 13,
        _ => 14,
    };
    let model = ModelProto {
        ir_version: Some(format),
        producer_name: Some("RLX".into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(opset) }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    let length = model.encoded_len();
    if length > LARGEST_MESSAGE {
        let message =
            format!("has {length} bytes, more than a file can have; store its params as external data");
        return Err(OnnxError::model("the model", message));
    }
    Ok(model.encode_to_vec())
}

/// ONNX's name of a dtype, for messages.
fn type_name(kind: DataType) -> &'static str {
    kind.as_str_name()
}
