//! Ensembles of decision trees: all rows walk down all trees at once, one level a step of a `scan`.
//!
//! Nodes and leaves of all trees stand in one list. A leaf is its own child, so that trees of different depth take
//! the same number of steps.

use super::encoders::literal;
use super::lifted::{emit, wrap};
use super::scores::{Labels, Transform, best, classify, computed_in, doubles, features, table};
use super::{Rule, ml_rule, required};
use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use crate::tensor::Read;
use rlx_ir::ops::{Checkpoint, ReduceKind, Scan};
use rlx_ir::{DType, Graph, Literal, Shape, Value};
use std::collections::{BTreeSet, HashMap};

pub(super) const RULES: &[Rule] = &[
    ml_rule("TreeEnsemble", &[5], ensemble),
    ml_rule("TreeEnsembleRegressor", &[1, 3, 5], regressor),
    ml_rule("TreeEnsembleClassifier", &[1, 3, 5], classifier),
];

/// Most numbers of the table of votes.
const MOST_VOTES: usize = 1 << 26;

/// How a node compares.
const MODES: [&str; 6] = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"];
/// The node asks whether the feature is one of a set.
const MEMBER: u8 = 6;

/// A node, or a leaf.
#[derive(Clone)]
struct Place {
    feature: i64,
    split: f64,
    mode: u8,
    yes: usize,
    no: usize,
    /// Where a feature that is no number leads.
    is_missing_yes: bool,
}

impl Place {
    fn leaf(at: usize) -> Place {
        Place { feature: 0, split: 0.0, mode: 0, yes: at, no: at, is_missing_yes: false }
    }
}

struct Forest {
    places: Vec<Place>,
    roots: Vec<usize>,
    /// Place, target and weight.
    votes: Vec<(usize, usize, f64)>,
    targets: usize,
}

/// How the votes of all trees become one.
#[derive(Clone, Copy, PartialEq)]
enum Aggregate {
    Average,
    Sum,
    Min,
    Max,
}

impl Forest {
    /// The number of steps to the deepest leaf.
    fn depth<'m>(&self) -> Result<usize, Stop<'m>> {
        let mut level: BTreeSet<usize> = self.roots.iter().copied().collect();
        for depth in 0..=self.places.len() {
            let inner = |&at: &usize| self.places[at].yes != at;
            let next: BTreeSet<usize> = level
                .iter()
                .filter(|at| inner(at))
                .flat_map(|&at| [self.places[at].yes, self.places[at].no])
                .collect();
            if next.is_empty() {
                return Ok(depth);
            }
            level = next;
        }
        Err(Stop::Invalid("a tree has a node that is its own descendant".into()))
    }

    /// The votes of all trees for the rows of operand 0, in the dtype that it is compared in.
    fn votes<'m>(&self, cx: &mut Context<'m>, node: &Node<'m>, how: Aggregate) -> Result<Value, Stop<'m>> {
        let dtype = computed_in(node)?;
        let (x, width) = features(cx, node, dtype)?;
        let most = self.places.iter().map(|place| place.feature).max().unwrap_or(0);
        let is_inside = width.as_static().is_none_or(|width| most < width);
        if !is_inside || self.places.iter().any(|place| place.feature < 0) {
            return Err(Stop::Invalid(format!("a tree asks for feature {most} of {width}")));
        }
        let at = self.walk(cx, x, dtype)?;
        let absent = match how {
            Aggregate::Average | Aggregate::Sum => 0.0,
            Aggregate::Min => f64::INFINITY,
            Aggregate::Max => f64::NEG_INFINITY,
        };
        let size = self.places.len().saturating_mul(self.targets);
        if size > MOST_VOTES {
            return Err(Stop::Refused(format!("its leaves have {size} votes, more than {MOST_VOTES}")));
        }
        let mut given: HashMap<(usize, usize), f64> = HashMap::new();
        for &(place, target, weight) in &self.votes {
            if target >= self.targets {
                return Err(Stop::Invalid(format!("a leaf votes for target {target} of {}", self.targets)));
            }
            *given.entry((place, target)).or_insert(0.0) += weight;
        }
        let mut all = vec![absent; size];
        for ((place, target), weight) in given {
            all[place * self.targets + target] = weight;
        }
        let all = table(cx, dtype, &[self.places.len(), self.targets], &all)?;
        let graph = cx.graph();
        let votes = graph.gather(all, at, 0usize);
        let kind = match how {
            Aggregate::Average | Aggregate::Sum => ReduceKind::Sum,
            Aggregate::Min => ReduceKind::Min,
            Aggregate::Max => ReduceKind::Max,
        };
        let total = graph.reduce(votes, kind, [1], false);
        Ok(match how {
            Aggregate::Sum => total,
            Aggregate::Average => {
                let trees = graph.scalar(dtype, self.roots.len() as f64);
                graph.div(total, trees)
            }
            Aggregate::Min | Aggregate::Max => {
                let absent = graph.scalar(dtype, absent);
                let (none, zero) = (graph.compare_eq(total, absent), graph.scalar(dtype, 0.0));
                graph.where_(none, zero, total)
            }
        })
    }

    /// For every row and tree the leaf that it ends in.
    fn walk<'m>(&self, cx: &mut Context<'m>, x: Value, dtype: DType) -> Result<Value, Stop<'m>> {
        let depth = self.depth()?;
        let rows = cx.ty(x)?.shape.dims()[0].clone();
        let mut column = |of: &dyn Fn(&Place) -> i128| {
            let values: Vec<i128> = self.places.iter().map(of).collect();
            let values = literal(Literal::ints(DType::I32, &[values.len()], &values))?;
            Ok::<Value, Stop<'m>>(cx.graph().constant(values))
        };
        let columns = [
            column(&|place| place.feature.into())?,
            column(&|place| place.mode.into())?,
            column(&|place| place.yes as i128)?,
            column(&|place| place.no as i128)?,
            column(&|place| i128::from(place.is_missing_yes))?,
        ];
        let splits: Vec<f64> = self.places.iter().map(|place| place.split).collect();
        let splits = table(cx, dtype, &[splits.len()], &splits)?;
        let roots: Vec<i128> = self.roots.iter().map(|&root| root as i128).collect();
        let roots = literal(Literal::ints(DType::I32, &[1, roots.len()], &roots))?;
        let roots = cx.graph().constant(roots);
        let first = cx.graph().expand(roots, Shape::new([rows, self.roots.len().into()]));
        let modes: BTreeSet<u8> = self.places.iter().map(|place| place.mode).collect();
        let some_missing = self.places.iter().any(|place| place.is_missing_yes);
        let operands: Vec<Value> = [first, x, splits].into_iter().chain(columns).collect();
        let types = operands.iter().map(|&value| cx.ty(value)).collect::<Result<Vec<_>, _>>()?;
        let body = wrap(cx, &types, |graph, inputs| Ok(vec![step(graph, inputs, &modes, some_missing)]))?;
        let (length, checkpoint) = (depth.into(), Checkpoint::Every);
        let op = Scan { length, carries: 1, stacked: 0, reverse: false, checkpoint, body: body.into() };
        let results = emit(cx, op, &operands)?;
        results.first().copied().ok_or_else(|| Stop::Invalid("no tree was walked".into()))
    }
}

/// One level down. `inputs`: places, features, splits; feature, mode, children and missing values of all places.
fn step(graph: &mut Graph, inputs: &[Value], modes: &BTreeSet<u8>, some_missing: bool) -> Value {
    let [at, x, splits, feature, mode, yes, no, missing] = inputs[..] else { return Value::POISON };
    let of = |graph: &mut Graph, column: Value| graph.gather(column, at, 0usize);
    let feature = of(graph, feature);
    let value = graph.gather_elements(x, feature, 1usize);
    let split = of(graph, splits);
    let own = of(graph, mode);
    let mut holds = None;
    for &mode in modes {
        let result = match mode {
            0 => graph.compare_le(value, split),
            1 => graph.compare_lt(value, split),
            2 => graph.compare_ge(value, split),
            3 => graph.compare_gt(value, split),
            4 => graph.compare_eq(value, split),
            _ => graph.compare_ne(value, split),
        };
        let number = graph.scalar(DType::I32, mode.into());
        let is_mode = graph.compare_eq(own, number);
        holds = Some(match holds {
            None => result,
            Some(other) => graph.where_(is_mode, result, other),
        });
    }
    let mut holds = holds.unwrap_or(Value::POISON);
    if some_missing {
        let leads = of(graph, missing);
        let zero = graph.scalar(DType::I32, 0.0);
        let leads = graph.compare_gt(leads, zero);
        let odd = graph.compare_ne(value, value);
        let both = graph.and(odd, leads);
        holds = graph.or(holds, both);
    }
    let (yes, no) = (of(graph, yes), of(graph, no));
    graph.where_(holds, yes, no)
}

/// A list of floats, or the tensor that stands for it.
fn either<'m>(cx: &Context<'m>, node: &Node<'m>, name: &str) -> Result<Option<Vec<f64>>, Stop<'m>> {
    match (doubles(node, name)?, tensor(cx, node, &format!("{name}_as_tensor"))?) {
        (Some(_), Some(_)) => Err(Stop::Invalid(format!("it has {name} twice"))),
        (list, tensor) => Ok(list.or(tensor)),
    }
}

fn tensor<'m>(cx: &Context<'m>, node: &Node<'m>, name: &str) -> Result<Option<Vec<f64>>, Stop<'m>> {
    match node.constant(cx, name)? {
        None => Ok(None),
        Some(Read::Numbers(tensor)) => Ok(Some(tensor.literal().map_err(Stop::Invalid)?.to_f64s())),
        Some(Read::Strings(_)) => Err(Stop::Invalid(format!("its {name} are strings"))),
    }
}

/// The trees of the older ops: nodes by tree and number, votes in attributes that begin with `vote`.
fn older<'m>(cx: &Context<'m>, node: &Node<'m>, vote: &str, targets: usize) -> Result<Forest, Stop<'m>> {
    for name in ["nodes_hitrates", "nodes_hitrates_as_tensor"] {
        node.without_influence(name);
    }
    let ints = |name: &str| required(node.ints(name)?, name);
    let (trees, numbers) = (ints("nodes_treeids")?, ints("nodes_nodeids")?);
    let (yes, no) = (ints("nodes_truenodeids")?, ints("nodes_falsenodeids")?);
    let (feature, missing) = (ints("nodes_featureids")?, node.ints("nodes_missing_value_tracks_true")?);
    let modes = required(node.strings("nodes_modes")?, "nodes_modes")?;
    let splits = required(either(cx, node, "nodes_values")?, "nodes_values")?;
    let count = trees.len();
    let lengths = [numbers.len(), yes.len(), no.len(), feature.len(), modes.len(), splits.len()];
    if lengths.iter().any(|&length| length != count) || missing.as_ref().is_some_and(|m| m.len() != count) {
        return Err(Stop::Invalid(format!("the lists of its nodes have lengths {count}, {lengths:?}")));
    }
    let mut at = HashMap::new();
    for index in 0..count {
        if at.insert((trees[index], numbers[index]), index).is_some() {
            let (tree, number) = (trees[index], numbers[index]);
            return Err(Stop::Invalid(format!("tree {tree} has two nodes {number}")));
        }
    }
    let find = |tree: i64, number: i64| {
        at.get(&(tree, number))
            .copied()
            .ok_or_else(|| Stop::Invalid(format!("tree {tree} has no node {number}")))
    };
    let (mut places, mut roots, mut seen) = (vec![], vec![], BTreeSet::new());
    for index in 0..count {
        if seen.insert(trees[index]) {
            roots.push(at.get(&(trees[index], 0)).copied().unwrap_or(index));
        }
        if modes[index] == "LEAF" {
            places.push(Place::leaf(index));
            continue;
        }
        let mode = MODES.iter().position(|mode| *mode == modes[index]);
        let mode = mode.ok_or_else(|| Stop::Invalid(format!("there is no mode {:?}", modes[index])))?;
        places.push(Place {
            feature: feature[index],
            split: splits[index],
            mode: mode as u8,
            yes: find(trees[index], yes[index])?,
            no: find(trees[index], no[index])?,
            is_missing_yes: missing.as_ref().is_some_and(|missing| missing[index] != 0),
        });
    }
    let list = |part: &str| ints(&format!("{vote}_{part}"));
    let (tree, number, target) = (list("treeids")?, list("nodeids")?, list("ids")?);
    let name = format!("{vote}_weights");
    let weights = required(either(cx, node, &name)?, &name)?;
    if [number.len(), target.len(), weights.len()].iter().any(|&length| length != tree.len()) {
        return Err(Stop::Invalid("the lists of its votes have different lengths".into()));
    }
    let mut votes = vec![];
    for index in 0..tree.len() {
        let target = usize::try_from(target[index]);
        let target = target.map_err(|_| Stop::Invalid("a target is negative".into()))?;
        votes.push((find(tree[index], number[index])?, target, weights[index]));
    }
    Ok(Forest { places, roots, votes, targets })
}

/// Votes with `base` added to every row, transformed.
fn finished<'m>(
    cx: &mut Context<'m>,
    votes: Value,
    base: Option<Vec<f64>>,
    transform: Transform,
) -> Result<Value, Stop<'m>> {
    let ty = cx.ty(votes)?;
    let mut y = votes;
    if let Some(base) = base.filter(|base| !base.is_empty()) {
        let base = table(cx, ty.dtype, &[base.len()], &base)?;
        y = cx.graph().add(y, base);
        if cx.ty(y)?.shape != ty.shape {
            return Err(Stop::Invalid("it has another number of base values than of targets".into()));
        }
    }
    transform.apply(cx, y)
}

fn aggregate<'m>(node: &Node<'m>) -> Result<Aggregate, Stop<'m>> {
    match node.string_or("aggregate_function", "SUM")?.as_str() {
        "AVERAGE" => Ok(Aggregate::Average),
        "SUM" => Ok(Aggregate::Sum),
        "MIN" => Ok(Aggregate::Min),
        "MAX" => Ok(Aggregate::Max),
        other => Err(Stop::Invalid(format!("there is no aggregate_function {other:?}"))),
    }
}

fn regressor<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let targets = node.int_or("n_targets", 1)?;
    let targets = usize::try_from(targets).map_err(|_| Stop::Invalid(format!("n_targets is {targets}")))?;
    let forest = older(cx, node, "target", targets)?;
    let (base, transform) = (either(cx, node, "base_values")?, Transform::named(node)?);
    let votes = forest.votes(cx, node, aggregate(node)?)?;
    let y = finished(cx, votes, base, transform)?;
    let y = cx.graph().cast_to(y, DType::F32);
    Ok(vec![cx.tensor(y)?])
}

fn classifier<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let labels = Labels::of(node, "classlabels_int64s")?;
    let forest = older(cx, node, "class", labels.len())?;
    let (base, transform) = (either(cx, node, "base_values")?, Transform::named(node)?);
    let voted: BTreeSet<usize> = forest.votes.iter().map(|vote| vote.1).collect();
    let is_positive = forest.votes.iter().all(|vote| vote.2 >= 0.0);
    let one_sided = labels.len() == 2 && voted.len() == 1;
    if labels.len() < 2 {
        return Err(Stop::Refused(format!("{} class labels", labels.len())));
    }
    // ONNX does not say what other combinations mean, and implementations differ.
    let is_defined = match transform {
        Transform::None => is_positive,
        Transform::Probit => false,
        Transform::Softmax | Transform::Logistic | Transform::SoftmaxZero => !is_positive,
    };
    if one_sided && !(is_defined && base.as_ref().is_none_or(|base| base.len() <= 1)) {
        return Err(Stop::Refused(format!(
            "votes for one of two classes with transform {transform:?}, weights {} and base values {base:?}",
            if is_positive { "that are not negative" } else { "of both signs" },
        )));
    }
    classify(cx, node, &labels, |cx, node| {
        let votes = forest.votes(cx, node, Aggregate::Sum)?;
        if !one_sided {
            // Labels are chosen before scores are transformed.
            let sums = finished(cx, votes, base, Transform::None)?;
            let (place, scores) = (best(cx, sums), transform.apply(cx, sums)?);
            return Ok((place, cx.graph().cast_to(scores, DType::F32)));
        }
        // Votes for one of two classes say how much they are for the second one.
        let dtype = cx.ty(votes)?.dtype;
        let voted = voted.first().copied().unwrap_or(0);
        let graph = cx.graph();
        let mut own = graph.narrow_at(votes, 1, voted, 1);
        if let Some(&base) = base.iter().flatten().next() {
            let base = graph.scalar(dtype, base);
            own = graph.add(own, base);
        }
        let limit = graph.scalar(dtype, if is_positive { 0.5 } else { 0.0 });
        let is_second = graph.compare_gt(own, limit);
        let place = graph.cast(is_second, DType::I32);
        let place = graph.squeeze(place, 1);
        let other = match is_positive {
            true => {
                let one = graph.scalar(dtype, 1.0);
                graph.sub(one, own)
            }
            false => graph.neg(own),
        };
        let both = graph.concat(&[other, own], 1usize);
        let scores = transform.apply(cx, both)?;
        Ok((place, cx.graph().cast_to(scores, DType::F32)))
    })
}

fn ensemble<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    node.without_influence("nodes_hitrates");
    let targets = node.int_or("n_targets", 1)?;
    let targets = usize::try_from(targets).map_err(|_| Stop::Invalid(format!("n_targets is {targets}")))?;
    let how = match node.int_or("aggregate_function", 1)? {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        other => return Err(Stop::Invalid(format!("there is no aggregate_function {other}"))),
    };
    let transform = Transform::numbered(node)?;
    let forest = newer(cx, node, targets)?;
    let votes = forest.votes(cx, node, how)?;
    let y = transform.apply(cx, votes)?;
    let y = cx.graph().cast_to(y, node.dtype(0)?);
    Ok(vec![cx.tensor(y)?])
}

/// The trees of `TreeEnsemble`: nodes, then leaves.
fn newer<'m>(cx: &Context<'m>, node: &Node<'m>, targets: usize) -> Result<Forest, Stop<'m>> {
    let ints = |name: &str| required(node.ints(name)?, name);
    let numbers = |name: &str| required(tensor(cx, node, name)?, name);
    let (modes, splits) = (numbers("nodes_modes")?, numbers("nodes_splits")?);
    let (feature, missing) = (ints("nodes_featureids")?, node.ints("nodes_missing_value_tracks_true")?);
    let (yes, no) = (ints("nodes_truenodeids")?, ints("nodes_falsenodeids")?);
    let (yes_leaf, no_leaf) = (ints("nodes_trueleafs")?, ints("nodes_falseleafs")?);
    let count = modes.len();
    let lengths = [splits.len(), feature.len(), yes.len(), no.len(), yes_leaf.len(), no_leaf.len()];
    if lengths.iter().any(|&length| length != count) || missing.as_ref().is_some_and(|m| m.len() != count) {
        return Err(Stop::Invalid(format!("the lists of its nodes have lengths {count}, {lengths:?}")));
    }
    let (weights, target) = (numbers("leaf_weights")?, ints("leaf_targetids")?);
    if weights.len() != target.len() {
        return Err(Stop::Invalid(format!("{} leaves have {} targets", weights.len(), target.len())));
    }
    let sets = tensor(cx, node, "membership_values")?.unwrap_or_default();
    let mut sets = sets.split(|value| value.is_nan());
    let child = |number: i64, leaf: i64| {
        let (first, limit) = if leaf == 0 { (0, count) } else { (count, weights.len()) };
        let number = usize::try_from(number).ok().filter(|&number| number < limit);
        number.map(|number| first + number).ok_or_else(|| Stop::Invalid("a node has no such child".into()))
    };
    let mut places = vec![];
    let mut members = vec![];
    for index in 0..count {
        let mode = modes[index] as u8;
        let mut place = Place {
            feature: feature[index],
            split: splits[index],
            mode,
            yes: child(yes[index], yes_leaf[index])?,
            no: child(no[index], no_leaf[index])?,
            is_missing_yes: missing.as_ref().is_some_and(|missing| missing[index] != 0),
        };
        if mode == MEMBER {
            let set = sets.next().unwrap_or_default();
            // Equal to the first of the set, or else to the next one.
            place.mode = 4;
            match set.split_first() {
                Some((&first, rest)) => {
                    place.split = first;
                    members.push((index, rest.to_vec()));
                }
                None => (place.split, place.yes) = (f64::NAN, place.no),
            }
        } else if usize::from(mode) >= MODES.len() {
            return Err(Stop::Invalid(format!("there is no mode {mode}")));
        }
        places.push(place);
    }
    let mut votes = vec![];
    for (index, (&weight, &target)) in weights.iter().zip(&target).enumerate() {
        places.push(Place::leaf(count + index));
        let target = usize::try_from(target).map_err(|_| Stop::Invalid("a target is negative".into()))?;
        votes.push((count + index, target, weight));
    }
    for (mut index, rest) in members {
        for split in rest {
            let next = places.len();
            let further = Place { split, ..places[index].clone() };
            places.push(further);
            places[index].no = next;
            index = next;
        }
    }
    let roots = ints("tree_roots")?.into_iter().map(|root| child(root, 0)).collect::<Result<_, _>>()?;
    Ok(Forest { places, roots, votes, targets })
}
