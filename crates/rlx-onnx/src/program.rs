//! Models that run: one compiled graph where shapes allow it, several stages where values decide.

use crate::context::{Context, Halt};
use crate::error::{OnnxError, Unsupported};
use crate::host::HostValue;
use crate::inputs::{Extents, declared_operands, fed_operands};
use crate::model::Model;
use crate::node::Stop;
use crate::rules::{self, control::Body};
use crate::stage;
use crate::value::{Imported, Weight};
use rlx_ir::{DType, Graph, Literal, TensorRef};
use rlx_runtime::{CompiledGraph, DriverError, RuntimeError, Session, SharedBytes};
use rlx_weights::{BytesWeightLoader, WeightBytes, WeightTensor};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

/// How a model is imported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Numbers for extents that the model names.
    pub dims: BTreeMap<String, usize>,
}

/// A model as one graph.
#[derive(Debug)]
pub struct ImportedGraph {
    /// The graph; its inputs and outputs are called as in the model.
    pub graph: Graph,
    /// The weights, by the names of the graph's params.
    pub weights: BytesWeightLoader,
}

/// Imports `model` as one graph, before anything is fed.
///
/// Where nodes draw random numbers without a seed, the graph has one more input, `random_key` (two `u32`): the key
/// of all of them.
///
/// # Errors
/// A model that breaks the rules of ONNX, nodes that are not supported, or that need a value that only a run knows.
pub fn import(model: &Model, options: &ImportOptions) -> Result<ImportedGraph, OnnxError> {
    let mut cx = Context::new(model);
    let operands = declared_operands(model, &mut cx, &options.dims)?;
    let results = walk(&mut cx, model, operands)?;
    for (info, result) in model.graph().output.iter().zip(results) {
        let Imported::Tensor(tensor) = &result else {
            let message = format!("is {}; a graph has tensors of numbers only", result.describe());
            return Err(OnnxError::model(format!("output {:?}", info.name()), message));
        };
        let value = stage::output(&mut cx, tensor)?;
        cx.graph().output(info.name(), value);
    }
    let graph = cx.take_graph().finish()?;
    let tensor = |weight: &Arc<Weight>| {
        let tensor = &weight.tensor;
        WeightTensor::new(
            &weight.name,
            tensor.dtype,
            &tensor.dims,
            WeightBytes::from_owner(Arc::new(tensor.bytes.clone())),
        )
    };
    let tensors = cx.weights.values().map(tensor).collect::<Result<Vec<_>, _>>()?;
    Ok(ImportedGraph { graph, weights: BytesWeightLoader::from_tensors(tensors)? })
}

/// Every node of a model whose op has no rule, bodies and functions included.
pub fn unsupported(model: &Model) -> Vec<Unsupported> {
    let mut found = vec![];
    let mut bodies = vec![(Body::Graph(model.graph()), model.opsets().clone())];
    for function in &model.proto.functions {
        bodies.push((Body::Function(function), crate::model::opsets(&function.opset_import)));
    }
    while let Some((body, opsets)) = bodies.pop() {
        for node in body.nodes() {
            bodies.extend(crate::model::subgraphs(node).map(|graph| (Body::Graph(graph), opsets.clone())));
            let domain = crate::model::canonical(node.domain());
            let key = (domain.to_string(), node.op_type().to_string(), node.overload().to_string());
            if model.functions.contains_key(&key) {
                continue;
            }
            let opset = opsets.get(domain).copied();
            if let Err(reason) = rules::find(domain, node.op_type(), opset) {
                found.push(Unsupported {
                    domain: domain.to_string(),
                    op: node.op_type().to_string(),
                    opset: opset.unwrap_or(0),
                    node: crate::names::label(node),
                    reason,
                });
            }
        }
    }
    found.sort();
    found
}

fn begin<'m>(
    cx: &mut Context<'m>,
    model: &'m Model,
    operands: Vec<Option<Imported>>,
) -> Result<(), OnnxError> {
    cx.enter(Body::Graph(model.graph()), operands, None, None).map_err(|stop| match stop {
        Stop::Failed(error) => error,
        Stop::Invalid(message) | Stop::Refused(message) => OnnxError::model(model.source(), message),
        Stop::Value(_) | Stop::Enter(_) => OnnxError::model(model.source(), "it cannot begin"),
    })
}

fn walk<'m>(
    cx: &mut Context<'m>,
    model: &'m Model,
    operands: Vec<Option<Imported>>,
) -> Result<Vec<Imported>, OnnxError> {
    begin(cx, model, operands)?;
    cx.advance(0).map_err(|halt| match halt {
        Halt::Failed(error) => error,
        Halt::Value(need) => OnnxError::Value {
            node: need.node,
            op: need.op,
            value: need.value,
            hint: "run the model on inputs, which tells it",
        },
    })
}

/// A compiled model that needs no value to decide its shapes.
struct Plan {
    compiled: CompiledGraph,
    made_with: Extents,
    /// Inputs of the graph, which are inputs of the model.
    feeds: Vec<String>,
    /// The outputs of the model: of the graph, by position, or values that are always the same.
    outputs: Vec<PlannedOutput>,
    /// Values of inputs that were looked at, and must be the same.
    looked_at: Vec<(String, HostValue)>,
    /// Extents of the inputs; `None` where they are symbols.
    extents: Vec<(String, Vec<Option<usize>>)>,
    /// The input that takes the key of random numbers.
    random_input: Option<String>,
}

enum PlannedOutput {
    Computed(usize),
    Fed(String),
    Constant(HostValue),
}

/// Most compiled forms of a model that are kept.
const MOST_PLANS: usize = 8;

/// A model on a device, ready to run.
pub struct OnnxProgram {
    model: Arc<Model>,
    session: Session,
    options: ImportOptions,
    plans: Vec<Plan>,
    stage_forms: stage::StageForms,
    stages: usize,
    /// The key of the next run's random numbers.
    key: [u32; 2],
}

/// Named results, in the order of the model.
pub type Results = Vec<(String, HostValue)>;

impl OnnxProgram {
    /// `model` on the device of `session`.
    pub fn new(model: Model, session: &Session, options: ImportOptions) -> OnnxProgram {
        let entropy = RandomState::new().build_hasher().finish();
        OnnxProgram {
            model: Arc::new(model),
            session: session.clone(),
            options,
            plans: vec![],
            stage_forms: stage::StageForms::default(),
            stages: 0,
            key: [entropy as u32, (entropy >> 32) as u32],
        }
    }

    /// Makes the random numbers that have no seed in the model those of `seed`: the next runs draw what they would
    /// draw after another call with the same one. Without this each program draws its own.
    pub fn seed(&mut self, seed: u32) {
        self.key = [seed, 0];
    }

    fn next_key(&mut self) -> Result<Literal, OnnxError> {
        let key = self.key;
        self.key[1] = key[1].wrapping_add(1);
        Ok(Literal::ints(DType::U32, &[2], &key.map(i128::from))?)
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// How many compiled graphs the last run took: one, where no value decides a shape.
    pub fn stages(&self) -> usize {
        self.stages
    }

    /// Compiled forms of the model that are kept for the next runs.
    pub fn forms(&self) -> usize {
        self.plans.len()
    }

    /// Compiled stages that are kept for the next runs.
    #[cfg(test)]
    pub(crate) fn kept_stages(&self) -> usize {
        self.stage_forms.len()
    }

    /// Runs the model with extents as it declares them; where that does not do, with the extents that are fed.
    ///
    /// # Errors
    /// Inputs that do not fit, all named; nodes that are not supported; what compiling or running reports.
    pub fn run(&mut self, feeds: &[(&str, HostValue)]) -> Result<Results, OnnxError> {
        let key = self.next_key()?;
        if let Some(done) = self.run_planned(feeds, &key, None) {
            return done;
        }
        match self.run_anew(feeds, &key, Extents::Declared) {
            Err(error) if is_final(&error) => Err(error),
            Err(_) => self.run_anew(feeds, &key, Extents::Concrete),
            done => done,
        }
    }

    /// Runs the model with its extents as said, and in no other way.
    ///
    /// # Errors
    /// As [`OnnxProgram::run`].
    pub fn run_with(&mut self, feeds: &[(&str, HostValue)], extents: Extents) -> Result<Results, OnnxError> {
        let key = self.next_key()?;
        match self.run_planned(feeds, &key, Some(extents)) {
            Some(done) => done,
            None => self.run_anew(feeds, &key, extents),
        }
    }

    /// Runs the first compiled form, of those made with `extents`, that takes what is fed. A form may refuse extents
    /// only when its symbols are bound; `None` where all do.
    fn run_planned(
        &mut self,
        feeds: &[(&str, HostValue)],
        key: &Literal,
        extents: Option<Extents>,
    ) -> Option<Result<Results, OnnxError>> {
        let wanted = |plan: &Plan| extents.is_none_or(|extents| plan.made_with == extents);
        for index in 0..self.plans.len() {
            let plan = &mut self.plans[index];
            if !wanted(plan) || !plan.fits(feeds) {
                continue;
            }
            match plan.run(feeds, key) {
                Err(error) if !is_final(&error) => {}
                done => {
                    // The one that was used last is dropped last.
                    self.plans[index..].rotate_left(1);
                    self.stages = 1;
                    return Some(done.map(|values| self.named(values)));
                }
            }
        }
        None
    }

    fn named(&self, values: Vec<HostValue>) -> Results {
        let names = self.model.graph().output.iter().map(|output| output.name().to_string());
        names.zip(values).collect()
    }

    /// Imports, compiles and runs the model.
    fn run_anew(
        &mut self,
        feeds: &[(&str, HostValue)],
        key: &Literal,
        extents: Extents,
    ) -> Result<Results, OnnxError> {
        let model = self.model.clone();
        let mut cx = Context::new(&model);
        cx.run_key = Some(key.clone());
        let operands = fed_operands(&model, &mut cx, feeds, extents, &self.options.dims)?;
        begin(&mut cx, &model, operands)?;
        let mut results = loop {
            match cx.advance(0) {
                Ok(results) => break results,
                Err(Halt::Failed(error)) => return Err(error),
                Err(Halt::Value(need)) => {
                    stage::run(&mut cx, (&self.session, &mut self.stage_forms), Some(&need), &mut [])?;
                }
            }
        };
        self.stages = cx.stage() + 1;
        if cx.stage() == 0
            && let Some(mut plan) = self.plan(&mut cx, &results, feeds, extents)?
        {
            let values = plan.run(feeds, key)?;
            if self.plans.len() == MOST_PLANS {
                self.plans.remove(0);
            }
            self.plans.push(plan);
            return Ok(self.named(values));
        }
        stage::run(&mut cx, (&self.session, &mut self.stage_forms), None, &mut results)?;
        let values = results.into_iter().map(stage::host).collect::<Result<Vec<_>, _>>()?;
        Ok(self.named(values))
    }

    /// The compiled form of a walk of one stage; `None` where its results are more than tensors of known extents.
    fn plan(
        &self,
        cx: &mut Context<'_>,
        results: &[Imported],
        feeds: &[(&str, HostValue)],
        made_with: Extents,
    ) -> Result<Option<Plan>, OnnxError> {
        let mut outputs = vec![];
        for result in results {
            let Imported::Tensor(tensor) = result else { return Ok(None) };
            if tensor.bounded.is_some() {
                return Ok(None);
            }
            outputs.push(match stage::fixed(tensor)? {
                Some(stage::Fixed::Constant(literal)) => PlannedOutput::Constant(literal.into()),
                Some(stage::Fixed::Fed(name)) => PlannedOutput::Fed(name),
                None => {
                    let value = stage::output(cx, tensor)?;
                    let position = cx.graph().outputs().len();
                    cx.graph().output(format!("output{position}"), value);
                    PlannedOutput::Computed(position)
                }
            });
        }
        let looked_at = std::mem::take(&mut cx.looked_at);
        let value_of =
            |name: &String| feeds.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        let is_missing =
            |output: &PlannedOutput| matches!(output, PlannedOutput::Fed(name) if value_of(name).is_none());
        if outputs.iter().any(is_missing) {
            return Ok(None);
        }
        let mut known = vec![];
        for name in looked_at {
            match value_of(&name) {
                Some(value) => known.push((name, value)),
                None => return Ok(None),
            }
        }
        if cx.bind_symbols().is_err() {
            return Ok(None);
        }
        let random = cx.random_input();
        let random_input = cx.feeds.contains_key(&random).then(|| random.clone());
        let names: Vec<String> = cx.feeds.keys().filter(|name| **name != random).cloned().collect();
        let mut extents = vec![];
        for name in &names {
            match value_of(name) {
                Some(HostValue::Tensor(_)) => extents.push((name.clone(), cx.input_extents(name))),
                _ => return Ok(None),
            }
        }
        let compiled = stage::compile(cx, &self.session)?;
        Ok(Some(Plan { compiled, made_with, feeds: names, outputs, looked_at: known, extents, random_input }))
    }
}

impl Plan {
    fn fits(&self, feeds: &[(&str, HostValue)]) -> bool {
        let value = |name: &String| feeds.iter().find(|(other, _)| other == name).map(|(_, value)| value);
        let fits = |(name, dims): &(String, Vec<Option<usize>>)| match value(name) {
            Some(HostValue::Tensor(literal)) => {
                let pairs = dims.iter().zip(literal.dims());
                dims.len() == literal.dims().len()
                    && pairs.into_iter().all(|(own, fed)| own.is_none_or(|own| own == *fed))
            }
            _ => false,
        };
        self.looked_at.iter().all(|(name, known)| value(name) == Some(known)) && self.extents.iter().all(fits)
    }

    fn run(&mut self, feeds: &[(&str, HostValue)], key: &Literal) -> Result<Vec<HostValue>, OnnxError> {
        let mut inputs: Vec<(&str, TensorRef<'_>)> = vec![];
        if let Some(name) = &self.random_input {
            inputs.push((name, TensorRef::from(key)));
        }
        for name in &self.feeds {
            if let Some((_, HostValue::Tensor(literal))) = feeds.iter().find(|(other, _)| other == name) {
                inputs.push((name, TensorRef::from(literal)));
            }
        }
        let computed: Vec<Literal> =
            match self.outputs.iter().any(|output| matches!(output, PlannedOutput::Computed(_))) {
                true => self.compiled.run_typed(&inputs)?.into_iter().map(|(_, literal)| literal).collect(),
                false => vec![],
            };
        let output = |output: &PlannedOutput| match output {
            PlannedOutput::Constant(value) => Some(value.clone()),
            PlannedOutput::Computed(position) => computed.get(*position).cloned().map(HostValue::Tensor),
            PlannedOutput::Fed(name) => {
                feeds.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
            }
        };
        let missing = || OnnxError::model("the program", "a result was not computed");
        self.outputs.iter().map(|planned| output(planned).ok_or_else(missing)).collect()
    }
}

/// Would the model report the same in every compiled form?
fn is_final(error: &OnnxError) -> bool {
    matches!(
        error,
        OnnxError::Inputs(_) | OnnxError::Runtime(RuntimeError::Driver(DriverError::Fault { .. }))
    )
}

/// Binds the weights that `cx` uses to `compiled`.
pub(crate) fn bind(cx: &Context<'_>, compiled: &mut CompiledGraph) -> Result<(), RuntimeError> {
    let names: Vec<String> = compiled.lir().io.params.iter().map(|entry| entry.name.clone()).collect();
    for name in names {
        if let Some(weight) = cx.weights.get(&name) {
            compiled.bind_param(&name, SharedBytes::new(Arc::new(weight.tensor.bytes.clone())))?;
        }
    }
    Ok(())
}
