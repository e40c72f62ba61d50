//! Fine-tuning beside frozen weights: low-rank adapters on matrix products, over a base that may be quantised; and
//! training with weights rounded as they will be once quantised.
//!
//! Both rewrite the loss graph before its gradients are taken. They know products and params, no model.

use crate::checkpoint::write_tensors;
use crate::error::TrainError;
use crate::trainer::Trainer;
use rlx_ir::attr::Real;
use rlx_ir::ops::{MatMul, ScaleMode, StraightThrough};
use rlx_ir::sample::Generator;
use rlx_ir::{DType, Graph, Literal, Node, Op, OpKind, TensorRef, TensorType, Value};
use rlx_runtime::Session;
use rlx_weights::{BytesWeightLoader, WeightLoader, WeightTensor};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Adapters: `x w` becomes `x w + (alpha / rank) x A^T B^T`, and only `A` and `B` are trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Rows of `A` and columns of `B`.
    pub rank: usize,
    /// Numerator of the factor.
    pub alpha: f64,
    /// Weights of products whose name holds one of these.
    pub targets: Vec<String>,
    /// Storage dtype of those weights, such as `q8_0`, in place of their own.
    #[serde(default)]
    pub quantize: Option<String>,
}

/// Rounding of weights in the forward pass, with gradients straight through it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rounding {
    /// Bits of a code, 2 to 16.
    pub bits: usize,
    /// Weights of products whose name holds one of these.
    pub targets: Vec<String>,
}

/// Copies the nodes of `from` to the end of `to`, those that `rule` makes anew as it says; gives the value of each
/// of their results.
pub(crate) fn copy_with(
    from: &Graph,
    to: &mut Graph,
    mut rule: impl FnMut(&mut Graph, &Node, &[Value]) -> Option<Vec<Value>>,
) -> Result<BTreeMap<Value, Value>, TrainError> {
    let mut values = BTreeMap::new();
    for (id, node) in from.iter() {
        let operands: Vec<Value> = node.operands.iter().map(|operand| values[operand]).collect();
        let results = match rule(to, node, &operands) {
            Some(results) => results,
            None => to.copy_node(node, &operands)?,
        };
        for (result, value) in results.into_iter().enumerate() {
            values.insert(Value { node: id, result: result as u32 }, value);
        }
    }
    for update in from.updates() {
        to.update_state(update.name.as_str(), values[&update.value]);
    }
    Ok(values)
}

/// [`copy_with`] into a graph of its own, with the same outputs.
fn rewritten(
    graph: &Graph,
    rule: impl FnMut(&mut Graph, &Node, &[Value]) -> Option<Vec<Value>>,
) -> Result<Graph, TrainError> {
    let mut copy = graph.emptied();
    let values = copy_with(graph, &mut copy, rule)?;
    copy.set_outputs(graph.outputs().iter().map(|output| (output.name.clone(), values[&output.value])));
    Ok(copy.finish()?)
}

/// The product of a node with a weight that is among `targets`: the op, the weight's name and its two extents.
fn product<'g>(
    graph: &'g Graph,
    node: &'g Node,
    targets: &[String],
) -> Option<(&'g MatMul, &'g str, [usize; 2])> {
    let Op::MatMul(product) = &node.op else { return None };
    let Op::Param(param) = &graph.node(node.operands[1].node).op else { return None };
    let is_target = targets.iter().any(|part| param.name.contains(part.as_str()));
    let ty = graph.ty(node.operands[1]);
    let dims: [usize; 2] = ty.shape.as_static()?.try_into().ok()?;
    (is_target && !product.transpose_a && ty.dtype == DType::F32).then_some((
        product,
        param.name.as_str(),
        dims,
    ))
}

fn no_product(setting: &'static str, targets: &[String]) -> TrainError {
    let expected = "parts of names of f32 matrices that products take as they are";
    TrainError::setting(setting, format!("{targets:?}"), expected)
}

impl Rounding {
    /// `loss` with the weights of its products rounded.
    ///
    /// # Errors
    /// No weight of these names; bits out of range.
    pub fn apply(&self, loss: &Graph) -> Result<Graph, TrainError> {
        if !(2..=16).contains(&self.bits) {
            return Err(TrainError::setting("rounding.bits", self.bits, "2 to 16"));
        }
        let mut found = false;
        let rounded = rewritten(loss, |g, node, operands| {
            let (op, _, _) = product(loss, node, &self.targets)?;
            found = true;
            // One scale per column of the result.
            let axis = Some(if op.transpose_b { 0 } else { 1 });
            let (ste, mode) = (StraightThrough::ClippedIdentity, ScaleMode::PerBatch);
            let weight = g.fake_quantize(operands[1], None, self.bits, axis, ste, mode, Real(0.0))[0];
            Some(vec![g.matmul(operands[0], weight, false, op.transpose_b)])
        })?;
        if found { Ok(rounded) } else { Err(no_product("rounding.targets", &self.targets)) }
    }
}

/// A loss graph with adapters.
pub struct Adapted {
    /// The graph.
    pub loss: Graph,
    /// What it starts from: the base, quantised where it shall be, and the adapters.
    pub weights: BytesWeightLoader,
    adapters: Vec<Adapter>,
    lora: Lora,
}

struct Adapter {
    weight: String,
    transposed: bool,
    /// Extents of `A` and `B`.
    dims: [[usize; 2]; 2],
}

impl Adapter {
    fn module(&self) -> &str {
        self.weight.strip_suffix(".weight").unwrap_or(&self.weight)
    }

    /// Names of `A` and `B`.
    fn names(&self) -> [String; 2] {
        ["A", "B"].map(|factor| format!("{}.lora_{factor}.weight", self.module()))
    }
}

impl Lora {
    /// `loss` with adapters, and `base` with what they start from: `A` uniform in `1 / sqrt(columns)`, `B` zero.
    ///
    /// # Errors
    /// No weight of these names; a rank of 0; a dtype that nothing is brought into.
    pub fn apply(
        &self,
        session: &Session,
        loss: &Graph,
        base: &dyn WeightLoader,
        seed: u64,
    ) -> Result<Adapted, TrainError> {
        if self.rank == 0 {
            return Err(TrainError::setting("lora.rank", 0, "1 or more"));
        }
        let storage = match &self.quantize {
            Some(name) => {
                Some(DType::parse(name).filter(|dtype| dtype.is_storage_only()).ok_or_else(|| {
                    TrainError::setting(
                        "lora.quantize",
                        name,
                        "a dtype that is for storage only, such as q8_0 or q4_0",
                    )
                })?)
            }
            None => None,
        };
        let adapters = self.find(loss);
        if adapters.is_empty() {
            return Err(no_product("lora.targets", &self.targets));
        }
        let adapted = self.rewrite(loss, &adapters, storage)?;
        let weights = self.start(session, (&adapted, storage), &adapters, base, seed)?;
        Ok(Adapted { loss: adapted, weights, adapters, lora: self.clone() })
    }

    fn find(&self, loss: &Graph) -> Vec<Adapter> {
        let mut adapters: Vec<Adapter> = vec![];
        for (_, node) in loss.nodes_of(OpKind::MatMul) {
            let Some((op, name, [rows, columns])) = product(loss, node, &self.targets) else { continue };
            let [inner, outer] = if op.transpose_b { [columns, rows] } else { [rows, columns] };
            if adapters.iter().all(|adapter| adapter.weight != name) {
                let dims = [[self.rank, inner], [outer, self.rank]];
                adapters.push(Adapter { weight: name.into(), transposed: op.transpose_b, dims });
            }
        }
        adapters
    }

    fn rewrite(
        &self,
        loss: &Graph,
        adapters: &[Adapter],
        storage: Option<DType>,
    ) -> Result<Graph, TrainError> {
        let mut factors: BTreeMap<String, [Value; 2]> = BTreeMap::new();
        rewritten(loss, |g, node, operands| {
            if let (Op::Param(param), Some(storage)) = (&node.op, storage)
                && adapters.iter().any(|adapter| adapter.weight == param.name)
            {
                let codes =
                    g.param(param.name.as_str(), TensorType { dtype: storage, ..node.types[0].clone() });
                return Some(vec![g.decode_storage(codes)]);
            }
            let (op, name, _) = product(loss, node, &self.targets)?;
            let adapter = adapters.iter().find(|adapter| adapter.weight == name)?;
            let [mut a, mut b] = *factors.entry(name.into()).or_insert_with(|| {
                let [a, b] = adapter.names();
                [
                    g.param(a.as_str(), TensorType::new(DType::F32, adapter.dims[0])),
                    g.param(b.as_str(), TensorType::new(DType::F32, adapter.dims[1])),
                ]
            });
            if !op.transpose_b {
                (a, b) = (g.transpose_last_two(a), g.transpose_last_two(b));
            }
            let scale = g.scalar(DType::F32, self.scale());
            Some(vec![g.lora_matmul(operands[0], operands[1], a, b, scale, None, op.transpose_b)])
        })
    }

    fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    fn start(
        &self,
        session: &Session,
        (adapted, storage): (&Graph, Option<DType>),
        adapters: &[Adapter],
        base: &dyn WeightLoader,
        seed: u64,
    ) -> Result<BytesWeightLoader, TrainError> {
        let mut tensors = vec![];
        for name in adapted.nodes_of(OpKind::Param).filter_map(|(_, node)| node.op.leaf_name()) {
            let Some(tensor) = base.find(name) else { continue };
            let is_base = adapters.iter().any(|adapter| adapter.weight == name);
            tensors.push(match storage.filter(|_| is_base) {
                Some(storage) => {
                    let mut g = Graph::new("encode");
                    let x = g.input("x", tensor.view().ty());
                    let y = g.encode_storage(x, storage);
                    g.output("y", y);
                    let codes = compute(session, g.finish()?, &[("x", tensor.view())])?;
                    WeightTensor::from_literal(name, &codes[0].1)?
                }
                None => tensor.clone(),
            });
        }
        for adapter in adapters {
            let ([a, b], [dims_a, dims_b]) = (adapter.names(), adapter.dims);
            let mut generator = Generator::new(seed ^ crate::decoder::name_hash(&a));
            let bound = 1.0 / (dims_a[1] as f64).sqrt();
            let uniform: Vec<f64> =
                (0..dims_a[0] * dims_a[1]).map(|_| bound * (2.0 * generator.unit() - 1.0)).collect();
            tensors.push(WeightTensor::from_literal(&a, &Literal::floats(DType::F32, &dims_a, &uniform)?)?);
            let zeros = vec![0.0; dims_b[0] * dims_b[1]];
            tensors.push(WeightTensor::from_literal(&b, &Literal::floats(DType::F32, &dims_b, &zeros)?)?);
        }
        Ok(BytesWeightLoader::from_tensors(tensors)?)
    }
}

impl Adapted {
    /// Is the param `name` one of an adapter?
    pub fn is_adapter(&self, name: &str) -> bool {
        self.adapters.iter().any(|adapter| adapter.names().iter().any(|own| own == name))
    }

    /// Writes what `trainer` has learned: the adapters in the PEFT format to the folder `adapter`, and all weights
    /// with the adapters added to them as `model.safetensors`. Gives the paths, the model's first.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn save(&self, trainer: &mut Trainer, folder: &Path) -> Result<[PathBuf; 2], TrainError> {
        let trained: BTreeMap<String, Literal> = trainer.weights()?.into_iter().collect();
        let own = folder.join("adapter");
        std::fs::create_dir_all(&own).map_err(TrainError::file(&own))?;
        let named: Vec<(String, Literal)> = trained
            .iter()
            .map(|(name, literal)| (format!("base_model.model.{name}"), literal.clone()))
            .collect();
        write_tensors(&own.join("adapter_model.safetensors"), &named)?;
        let config = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "r": self.lora.rank,
            "lora_alpha": self.lora.alpha,
            "target_modules": self.adapters.iter().map(Adapter::module).collect::<Vec<_>>(),
            "fan_in_fan_out": self.adapters.iter().all(|adapter| !adapter.transposed),
            "lora_dropout": 0.0,
            "bias": "none",
        });
        let path = own.join("adapter_config.json");
        std::fs::write(&path, format!("{config:#}\n")).map_err(TrainError::file(&path))?;
        let (merged, whole) = (self.merged(trainer.session(), &trained)?, folder.join("model.safetensors"));
        write_tensors(&whole, &merged)?;
        Ok([whole, own])
    }

    /// All weights of the base, the adapters added to those that have one.
    fn merged(
        &self,
        session: &Session,
        trained: &BTreeMap<String, Literal>,
    ) -> Result<Vec<(String, Literal)>, TrainError> {
        let mut all = vec![];
        for tensor in self.weights.tensors().iter().filter(|tensor| !self.is_adapter(tensor.name())) {
            let Some(adapter) = self.adapters.iter().find(|adapter| adapter.weight == tensor.name()) else {
                all.push((tensor.name().to_string(), tensor.view().to_literal()?));
                continue;
            };
            let [a, b] = adapter.names().map(|name| &trained[&name]);
            let mut g = Graph::new("merge");
            let mut w = g.input("w", tensor.view().ty());
            if tensor.dtype().is_storage_only() {
                w = g.decode_storage(w);
            }
            let (left, right) = (g.input("a", a.ty()), g.input("b", b.ty()));
            let mut change = g.matmul(right, left, false, false);
            if !adapter.transposed {
                change = g.transpose_last_two(change);
            }
            let scale = g.scalar(DType::F32, self.lora.scale());
            let change = g.mul(change, scale);
            let sum = g.add(w, change);
            g.output(tensor.name(), sum);
            let feeds = [("w", tensor.view()), ("a", TensorRef::from(a)), ("b", TensorRef::from(b))];
            all.extend(compute(session, g.finish()?, &feeds)?);
        }
        Ok(all)
    }
}

fn compute(
    session: &Session,
    graph: Graph,
    feeds: &[(&str, TensorRef<'_>)],
) -> Result<Vec<(String, Literal)>, TrainError> {
    Ok(session.compile(graph)?.run_typed(feeds)?)
}
