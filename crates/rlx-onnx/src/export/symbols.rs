//! Symbols of a graph that is exported: where their values come from.

use super::writer::{Field, Writer};
use crate::error::OnnxError;
use rlx_ir::{Bindings, Dim, DimAlgebra, DimError, DimJoin, Graph, OpKind, Symbol, TensorType};
use rlx_weights::WeightLoader;
use std::collections::BTreeMap;

/// Where an extent is `factor symbol + offset`.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub input: String,
    pub axis: usize,
    pub factor: i64,
    pub offset: i64,
}

/// The graph with the symbols that the params decide replaced by their values.
pub(super) fn bind_params(graph: &Graph, weights: &dyn WeightLoader) -> Result<Graph, OnnxError> {
    let mut bindings = Bindings::new();
    for (_, node) in graph.nodes_of(OpKind::Param) {
        let Some(name) = node.op.leaf_name() else { continue };
        let tensor = weights.tensor(name)?;
        let ty = &node.types[0];
        let fits = tensor.dtype == ty.dtype && tensor.dims.len() == ty.rank();
        let found = || TensorType::new(tensor.dtype, tensor.dims);
        if !fits {
            return Err(OnnxError::model(format!("param {name:?}"), format!("is {ty}, found {}", found())));
        }
        for (dim, &extent) in ty.shape.dims().iter().zip(tensor.dims) {
            if let Some((symbol, Some(value))) = dim.solve_for_symbol(extent as i64)
                && bindings.get(&symbol).is_none()
            {
                bindings.set(&symbol, value);
            }
        }
        let extents = ty.shape.eval(&bindings);
        if extents.as_deref() != Ok(tensor.dims) {
            return Err(OnnxError::model(format!("param {name:?}"), format!("is {ty}, found {}", found())));
        }
    }
    if bindings.iter().next().is_none() {
        return Ok(graph.clone());
    }
    let bound = |dim: &Dim| dim.substitute(&|symbol| bindings.get(symbol).map(Dim::from));
    let graph = graph.map_dims(&bound);
    rlx_ir::verify::verify(&graph)?;
    Ok(graph)
}

/// A source for every symbol that an input tells.
pub(super) fn sources(graph: &Graph, name: impl Fn(rlx_ir::Value) -> String) -> BTreeMap<Symbol, Source> {
    let mut found: BTreeMap<Symbol, Source> = BTreeMap::new();
    let inputs: Vec<_> = graph.nodes_of(OpKind::Input).collect();
    for lone in [true, false] {
        for (id, node) in &inputs {
            for (axis, dim) in node.types[0].shape.dims().iter().enumerate() {
                let Some((symbol, _)) = dim.solve_for_symbol(0) else { continue };
                if found.contains_key(&symbol) || lone != dim.as_symbol().is_some() {
                    continue;
                }
                let at = |value: i64| dim.eval(&[(&*symbol, value)].into_iter().collect());
                let (Ok(offset), Ok(next)) = (at(0), at(1)) else { continue };
                let input = name(rlx_ir::Value::first(*id));
                found.insert(symbol, Source { input, axis, factor: next - offset, offset });
            }
        }
    }
    found
}

/// Dims as vectors of one integer, computed by nodes.
pub(super) struct Extents<'a, 'g> {
    pub writer: &'a mut Writer<'g>,
}

impl DimAlgebra for Extents<'_, '_> {
    type Value = String;
    type Error = DimError;

    fn constant(&mut self, value: i64) -> Result<String, DimError> {
        Ok(self.writer.ints(&[value]))
    }

    fn symbol(&mut self, name: &Symbol) -> Result<String, DimError> {
        let Some(source) = self.writer.source(name) else { return Err(DimError::Unbound(name.clone())) };
        let axis = source.axis as i64;
        let ends = [("start", Field::Int(axis)), ("end", Field::Int(axis + 1))];
        let mut value = self.writer.node("Shape", &[&source.input], &ends);
        if source.offset != 0 {
            let offset = self.writer.ints(&[source.offset]);
            value = self.writer.node("Sub", &[&value, &offset], &[]);
        }
        if source.factor != 1 {
            let factor = self.writer.ints(&[source.factor]);
            value = self.writer.node("Div", &[&value, &factor], &[]);
        }
        Ok(value)
    }

    fn join(
        &mut self,
        join: DimJoin,
        left: (String, &Dim),
        right: (String, &Dim),
    ) -> Result<String, DimError> {
        let (mut a, b) = (left.0, right.0);
        let op = match join {
            DimJoin::Add => "Add",
            DimJoin::Mul => "Mul",
            DimJoin::Mod => "Mod",
            DimJoin::Min => "Min",
            DimJoin::Max => "Max",
            DimJoin::FloorDiv => {
                let low = |dim: &Dim| self.writer.bounds(dim).0;
                if low(left.1).is_none_or(|low| low < 0) || low(right.1).is_none_or(|low| low < 0) {
                    // ONNX divides towards zero; what leaves no rest divides the same either way.
                    let rest = self.writer.node("Mod", &[&a, &b], &[]);
                    a = self.writer.node("Sub", &[&a, &rest], &[]);
                }
                "Div"
            }
        };
        Ok(self.writer.node(op, &[&a, &b], &[]))
    }
}
