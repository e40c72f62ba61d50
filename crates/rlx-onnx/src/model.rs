//! A model file: read, with its external data, and checked as far as that needs no shapes.
//!
//! Invariant: external data lies in the folder of the model or below, in a plain file that is neither a link out of
//! it nor a second name of a file elsewhere. Bytes are mapped, not copied.

use crate::error::OnnxError;
use crate::order::sort_nodes;
use crate::proto::{GraphProto, ModelProto, NodeProto, TensorProto, tensor_proto};
use bytes::Bytes;
use prost::Message;
use rlx_weights::{FileAccess, WeightBytes};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

/// The newest opset of ONNX's own domain that this importer knows.
pub const NEWEST_OPSET: i64 = 28;
/// The oldest opset of ONNX's own domain that this importer knows.
pub const OLDEST_OPSET: i64 = 1;

/// An ONNX model.
#[derive(Debug)]
pub struct Model {
    pub(crate) proto: ModelProto,
    /// File or other name, for messages.
    source: String,
    /// Files of external data by location.
    external: HashMap<String, Bytes>,
    pub(crate) opsets: BTreeMap<String, i64>,
    /// Function index by domain, name and overload.
    pub(crate) functions: HashMap<(String, String, String), usize>,
}

/// Opset versions by domain; ONNX's own domain is the empty string.
pub(crate) fn opsets(imports: &[crate::proto::OperatorSetIdProto]) -> BTreeMap<String, i64> {
    imports.iter().map(|import| (canonical(import.domain()).to_string(), import.version())).collect()
}

/// The name under which a domain is looked up.
pub(crate) fn canonical(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

impl Model {
    /// Opens `path`. The file is mapped and must not change while the model lives.
    ///
    /// # Errors
    /// A file that cannot be read or is no ONNX model; external data that is missing or outside the folder.
    pub fn open(path: impl AsRef<Path>) -> Result<Model, OnnxError> {
        Model::open_with(path, FileAccess::Map)
    }

    /// Opens `path`, mapped or read.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn open_with(path: impl AsRef<Path>, access: FileAccess) -> Result<Model, OnnxError> {
        let path = path.as_ref();
        let bytes = WeightBytes::open(path, access)?;
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        let mut model = Model::decode(Bytes::from_owner(bytes), &path.display().to_string())?;
        let mut locations = vec![];
        if let Some(graph) = &model.proto.graph {
            external_locations(graph, &mut locations)?;
        }
        for location in locations {
            if let Entry::Vacant(place) = model.external.entry(location) {
                let file = contained(&folder, place.key())?;
                place.insert(Bytes::from_owner(WeightBytes::open(&file, access)?));
            }
        }
        Ok(model)
    }

    /// A model from bytes, called `source` in messages. External data is refused when it is needed.
    ///
    /// # Errors
    /// Bytes that are no ONNX model.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>, source: &str) -> Result<Model, OnnxError> {
        Model::decode(Bytes::from(bytes.into()), source)
    }

    fn decode(bytes: Bytes, source: &str) -> Result<Model, OnnxError> {
        let proto = ModelProto::decode(bytes).map_err(|error| {
            // The message names every level on the way down; the last part says what is wrong.
            let text = error.to_string();
            let reason = text.rsplit(": ").next().unwrap_or_default();
            OnnxError::file(source, format!("it is no ONNX model: {reason}"))
        })?;
        Model::from_proto(proto, source)
    }

    /// A model from its message.
    pub(crate) fn from_proto(mut proto: ModelProto, source: &str) -> Result<Model, OnnxError> {
        sort_nodes(&mut proto);
        if proto.graph.is_none() {
            return Err(OnnxError::file(source, "it is no ONNX model: it has no graph"));
        }
        let mut functions = HashMap::new();
        for (index, function) in proto.functions.iter().enumerate() {
            let key = (
                canonical(function.domain()).to_string(),
                function.name().to_string(),
                function.overload().to_string(),
            );
            if functions.insert(key, index).is_some() {
                return Err(OnnxError::model(
                    format!("function {:?}", function.name()),
                    "stands there twice",
                ));
            }
        }
        let opsets = opsets(&proto.opset_import);
        for (domain, version) in &opsets {
            if domain.is_empty() && !(OLDEST_OPSET..=NEWEST_OPSET).contains(version) {
                let known = format!("opset {version} of ai.onnx; {OLDEST_OPSET} to {NEWEST_OPSET} are known");
                return Err(OnnxError::file(source, known));
            }
        }
        Ok(Model { proto, source: source.to_string(), external: HashMap::new(), opsets, functions })
    }

    /// The file, or whatever name the model was given.
    pub fn source(&self) -> &str {
        &self.source
    }

    pub(crate) fn graph(&self) -> &GraphProto {
        self.proto.graph.as_ref().expect("checked when the model was made")
    }

    /// Opset versions by domain; ONNX's own domain is the empty string.
    pub fn opsets(&self) -> &BTreeMap<String, i64> {
        &self.opsets
    }

    /// The external bytes of `tensor`; `None` where it holds its own.
    pub(crate) fn external_bytes(&self, tensor: &TensorProto) -> Result<Option<Bytes>, String> {
        if tensor.data_location() != tensor_proto::DataLocation::External {
            return Ok(None);
        }
        let entry = |key: &str| {
            tensor.external_data.iter().find(|entry| entry.key() == key).map(|entry| entry.value())
        };
        let number = |key: &str| match entry(key) {
            None => Ok(None),
            Some(text) => {
                text.parse::<usize>().map(Some).map_err(|_| format!("its {key} is {text:?}, no number"))
            }
        };
        let location = entry("location").ok_or("its external data has no location")?;
        let file = self.external.get(location);
        let file = file.ok_or_else(|| format!("its data is in {location:?}, which was not opened"))?;
        let start = number("offset")?.unwrap_or(0);
        let end = match number("length")? {
            Some(length) => start.checked_add(length),
            None => Some(file.len()),
        };
        match end.filter(|&end| start <= end && end <= file.len()) {
            Some(end) => Ok(Some(file.slice(start..end))),
            None => {
                Err(format!("its data ends behind the end of {location:?}, which has {} bytes", file.len()))
            }
        }
    }
}

/// What a model file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Name of the graph.
    pub name: String,
    /// Program that wrote the file, with its version.
    pub producer: String,
    /// Version of the file format.
    pub ir_version: i64,
    /// Nodes by op, those of bodies and functions included.
    pub ops: BTreeMap<String, usize>,
    /// Number of initialisers of the main graph.
    pub weights: usize,
    /// Their bytes.
    pub weight_bytes: u64,
    /// Number of functions.
    pub functions: usize,
}

impl Model {
    /// What the file holds.
    ///
    /// # Errors
    /// An initialiser whose data does not fit its type.
    pub fn summary(&self) -> Result<Summary, OnnxError> {
        let graph = self.graph();
        let mut weight_bytes = 0;
        for tensor in &graph.initializer {
            let wrong = |reason| OnnxError::model(format!("initialiser {:?}", tensor.name()), reason);
            let external = self.external_bytes(tensor).map_err(wrong)?;
            if let crate::tensor::Read::Numbers(tensor) =
                crate::tensor::read(tensor, external).map_err(wrong)?
            {
                weight_bytes += tensor.bytes.len() as u64;
            }
        }
        let mut ops = BTreeMap::new();
        count_ops(&graph.node, &mut ops);
        self.proto.functions.iter().for_each(|function| count_ops(&function.node, &mut ops));
        Ok(Summary {
            name: graph.name().to_string(),
            producer: format!("{} {}", self.proto.producer_name(), self.proto.producer_version())
                .trim()
                .to_string(),
            ir_version: self.proto.ir_version(),
            ops,
            weights: graph.initializer.len(),
            weight_bytes,
            functions: self.proto.functions.len(),
        })
    }
}

fn count_ops(nodes: &[NodeProto], ops: &mut BTreeMap<String, usize>) {
    for node in nodes {
        *ops.entry(node.op_type().to_string()).or_insert(0) += 1;
        subgraphs(node).for_each(|graph| count_ops(&graph.node, ops));
    }
}

/// Calls `visit` with every graph inside the attributes of `node`.
pub(crate) fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

fn external_locations(graph: &GraphProto, found: &mut Vec<String>) -> Result<(), OnnxError> {
    let attributes = graph.node.iter().flat_map(|node| &node.attribute);
    let tensors = graph.initializer.iter().chain(attributes.flat_map(|a| a.t.iter().chain(&a.tensors)));
    for tensor in tensors.filter(|tensor| tensor.data_location() == tensor_proto::DataLocation::External) {
        let location = tensor.external_data.iter().find(|entry| entry.key() == "location");
        let location = location.ok_or_else(|| {
            OnnxError::model(format!("tensor {:?}", tensor.name()), "its external data has no location")
        })?;
        found.push(location.value().to_string());
    }
    for inner in graph.node.iter().flat_map(subgraphs) {
        external_locations(inner, found)?;
    }
    Ok(())
}

/// The file `location` in `folder`, which may not lead out of it.
fn contained(folder: &Path, location: &str) -> Result<PathBuf, OnnxError> {
    let refuse = |reason: &str| OnnxError::file(location, format!("external data {reason}"));
    let relative = Path::new(location);
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if location.is_empty() || !relative.components().all(plain) {
        return Err(refuse("must lie in the folder of the model: absolute paths and `..` are refused"));
    }
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let real =
        |path: &Path| path.canonicalize().map_err(|error| refuse(&format!("cannot be opened: {error}")));
    let (root, file) = (real(folder)?, real(&folder.join(relative))?);
    if !file.starts_with(&root) {
        return Err(refuse("is a link that leads out of the folder of the model"));
    }
    let status = file.metadata().map_err(|error| refuse(&format!("cannot be opened: {error}")))?;
    if !status.is_file() {
        return Err(refuse("is no file"));
    }
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::nlink(&status) > 1 {
        return Err(refuse("is a file with several names (hard links), which may lie outside the folder"));
    }
    Ok(file)
}
