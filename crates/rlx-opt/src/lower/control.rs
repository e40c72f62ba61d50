//! Control flow to LIR: branches and loops around the steps of bodies.
//!
//! A body is lowered like a graph of its own into the same module. Its inputs are views: of captured values, of
//! the buffers of carries, and, for stacked operands of a scan, of the element that belongs to the iteration, at an
//! offset that the counter of the loop decides. Branches and stacked results are written straight to their place.
//! The buffer of a carry is the result of the loop; at the end of an iteration the next carries are copied there,
//! unless they were made in place ([`crate::memory`] takes most of the other copies away).

use super::{Lowering, Placement};
use crate::pass::OptError;
use rlx_ir::lir::{BranchStep, LoopStep, Repeat, Step, View};
use rlx_ir::ops::{If, Scan, While};
use rlx_ir::{Body, DType, Dim, Graph, Layout, Node, NodeId, Shape, Symbol, TensorType, Value};

/// Where the results of a body go.
struct Results {
    /// The buffers of the carries, which are the first results and the first inputs.
    carries: Vec<View>,
    /// The places of the others.
    places: Vec<View>,
}

impl<'a> Lowering<'a> {
    pub(super) fn branch(&mut self, id: NodeId, node: &'a Node, op: &'a If) -> Result<(), OptError> {
        let number = self.begin(id);
        let places = self.results(id, node, 0..node.types.len());
        let inputs = self.inputs(&node.operands[1..]);
        let mut side = |body: &'a Body, name: &str| {
            let results = Results { carries: vec![], places: places.clone() };
            self.body(id, body, name, inputs.clone(), results)
        };
        let (then, otherwise) = (side(&op.then, "then")?, side(&op.otherwise, "otherwise")?);
        let (predicate, origin) = (self.view(node.operands[0]), self.origin(id));
        let branch = BranchStep { predicate, then, otherwise, origin };
        self.end(id, number, Step::Branch(Box::new(branch)));
        Ok(())
    }

    pub(super) fn counted_loop(&mut self, id: NodeId, node: &'a Node, op: &'a Scan) -> Result<(), OptError> {
        let carries = self.carries(id, node, op.carries);
        let places = self.results(id, node, op.carries..node.types.len());
        let number = self.begin(id);
        let counter: Symbol = format!("%{number}.i").into();
        let step = Dim::symbol(&counter);
        let position = if op.reverse { op.length.clone() - Dim::from(1) - step } else { step };
        let element = |view: &View| View { layout: element(&view.layout, &position), ..view.clone() };
        let (fixed, stacked) = node.operands.split_at(node.operands.len() - op.stacked);
        let mut inputs = carries.clone();
        inputs.extend(self.inputs(&fixed[op.carries..]));
        inputs.extend(self.inputs(stacked).iter().map(element));
        let results = Results { carries, places: places.iter().map(element).collect() };
        let body = self.body(id, &op.body, "body", inputs, results)?;
        let repeat = Repeat::Times { counter, count: op.length.clone() };
        self.end(id, number, Step::Loop(Box::new(LoopStep { repeat, body, origin: self.origin(id) })));
        Ok(())
    }

    pub(super) fn conditional_loop(
        &mut self,
        id: NodeId,
        node: &'a Node,
        op: &'a While,
    ) -> Result<(), OptError> {
        let carries = self.carries(id, node, op.carries);
        let number = self.begin(id);
        let mut inputs = carries.clone();
        inputs.extend(self.inputs(&node.operands[op.carries..]));
        let predicate =
            self.temporary(&format!("%{} predicate", id.0), &TensorType::new(DType::Bool, Shape::scalar()));
        let results = Results { carries: vec![], places: vec![predicate.clone()] };
        let condition = self.body(id, &op.condition, "condition", inputs.clone(), results)?;
        let body = self.body(id, &op.body, "body", inputs, Results { carries, places: vec![] })?;
        let repeat = Repeat::While { condition, predicate, limit: op.max_iterations.clone() };
        self.end(id, number, Step::Loop(Box::new(LoopStep { repeat, body, origin: self.origin(id) })));
        Ok(())
    }

    /// Takes the number of a step that holds others, which come after it.
    fn begin(&mut self, id: NodeId) -> usize {
        self.steps += 1;
        self.placements[id.0 as usize] = Placement::Step(self.steps - 1);
        self.steps - 1
    }

    fn end(&mut self, id: NodeId, number: usize, step: Step) {
        self.module.steps.push(step);
        self.place(id, number);
    }

    fn inputs(&self, operands: &[Value]) -> Vec<View> {
        operands.iter().map(|&operand| self.view(operand)).collect()
    }

    /// Buffers for results of a node.
    fn results(&mut self, id: NodeId, node: &Node, range: std::ops::Range<usize>) -> Vec<View> {
        debug_assert!(range.end <= node.types.len());
        let mut views = vec![];
        for result in range {
            let value = Value { node: id, result: result as u32 };
            let view = self.result(value);
            self.views.insert(value, view.clone());
            views.push(view);
        }
        views
    }

    /// Buffers for the first results of a loop, filled with its first operands.
    fn carries(&mut self, id: NodeId, node: &Node, count: usize) -> Vec<View> {
        let views = self.results(id, node, 0..count);
        for (view, &operand) in views.iter().zip(&node.operands) {
            let origin = format!("{} (first carry)", self.origin(id));
            self.copy(self.view(operand), view.clone(), origin);
        }
        views
    }

    /// The steps of a body.
    fn body(
        &mut self,
        id: NodeId,
        body: &'a Body,
        name: &str,
        inputs: Vec<View>,
        results: Results,
    ) -> Result<Vec<Step>, OptError> {
        let graph: &'a Graph = body;
        let mut preparation = self.preparation.lend();
        preparation.depth += 1;
        let mut inner = Lowering::new(graph, self.context, preparation);
        inner.path = format!("{} {name}: ", self.origin(id));
        inner.module = std::mem::take(&mut self.module);
        let around = std::mem::take(&mut inner.module.steps);
        inner.first_buffer = inner.module.buffers.len();
        (inner.steps, inner.unshared) = (self.steps, std::mem::take(&mut self.unshared));
        inner.views = body.inputs().into_iter().zip(inputs).collect();
        let outputs: Vec<Value> = graph.outputs().iter().map(|output| output.value).collect();
        let (carried, placed) = outputs.split_at(results.carries.len());
        inner.homes = results.carries.iter().map(|view| view.buffer).zip(carried.iter().copied()).collect();
        for (&value, place) in placed.iter().zip(&results.places) {
            inner.targets.entry(value).or_insert_with(|| place.clone());
        }
        let lowered = graph.iter().try_for_each(|(id, node)| inner.node(id, node));
        if lowered.is_ok() {
            inner.finish_body(carried, placed, &results);
        }
        let Lowering { module, preparation, steps, unshared, .. } = inner;
        (self.module, self.preparation, self.steps, self.unshared) = (module, preparation, steps, unshared);
        self.preparation.depth -= 1;
        let steps = std::mem::replace(&mut self.module.steps, around);
        lowered.map(|()| steps)
    }

    /// Copies the results that no step wrote straight to their place, carries last.
    fn finish_body(&mut self, carried: &[Value], placed: &[Value], results: &Results) {
        for (&value, place) in placed.iter().zip(&results.places) {
            let source = self.view(value);
            if source != *place {
                self.copy(source, place.clone(), format!("{}result (copy)", self.path));
            }
        }
        let moves = carried.iter().zip(&results.carries);
        let origin = format!("{}carry (copy)", self.path);
        let moves = moves.map(|(&value, place)| (self.view(value), place.clone(), origin.clone())).collect();
        self.move_all(moves);
    }
}

/// Element `position` along the first axis.
fn element(layout: &Layout, position: &Dim) -> Layout {
    let mut layout = layout.slice(0, position, 1, &Dim::from(1));
    layout.strides.remove(0);
    layout.shape = Shape::from(layout.shape.dims()[1..].to_vec());
    layout
}
