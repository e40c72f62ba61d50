//! A node as a rule sees it: operands and attributes by what they must be, with errors that name them.
//!
//! Every attribute that a rule reads is noted; one that stands in the file and was not read makes the import fail, so
//! that no attribute is ignored.

use crate::context::Context;
use crate::error::OnnxError;
use crate::proto::attribute_proto::AttributeType;
use crate::proto::{AttributeProto, GraphProto, NodeProto};
use crate::rules::control::Call;
use crate::tensor;
use crate::value::{Content, Imported, Tensor};
use rlx_ir::{DType, Dim, Literal, Shape, Value};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

/// Why a rule gave no results.
#[derive(Debug)]
pub(crate) enum Stop<'m> {
    /// Legal ONNX that is not supported: why.
    Refused(String),
    /// A model that breaks the rules of ONNX: how.
    Invalid(String),
    /// The value of this operand must be known.
    Value(usize),
    /// A body runs first; it says what comes after it.
    Enter(Box<Call<'m>>),
    /// Anything else.
    Failed(OnnxError),
}

/// What a rule gives: the results, in order.
pub(crate) type Outcome<'m> = Result<Vec<Imported>, Stop<'m>>;

/// A node with its operands.
pub(crate) struct Node<'m> {
    pub proto: &'m NodeProto,
    /// The version of the op: that of the opset in which it last changed.
    pub version: i64,
    pub inputs: Vec<Option<Imported>>,
    attributes: HashMap<&'m str, &'m AttributeProto>,
    read: Rc<RefCell<BTreeSet<String>>>,
}

impl<'m> Node<'m> {
    pub fn new(
        proto: &'m NodeProto,
        version: i64,
        inputs: Vec<Option<Imported>>,
        attributes: HashMap<&'m str, &'m AttributeProto>,
    ) -> Node<'m> {
        Node { proto, version, inputs, attributes, read: Rc::default() }
    }

    /// The same node with other operands; attributes that are read of one are read of both.
    pub fn with_inputs(&self, inputs: Vec<Option<Imported>>) -> Node<'m> {
        let (attributes, read) = (self.attributes.clone(), self.read.clone());
        Node { proto: self.proto, version: self.version, inputs, attributes, read }
    }

    /// The same node with other operands, as the op is in another version.
    pub fn as_version(&self, version: i64, inputs: Vec<Option<Imported>>) -> Node<'m> {
        let mut node = self.with_inputs(inputs);
        node.version = version;
        node
    }

    /// Is there a result `index` that something may read?
    pub fn wants(&self, index: usize) -> bool {
        self.proto.output.get(index).is_some_and(|name| !name.is_empty())
    }

    /// Number of results that the node names.
    pub fn output_count(&self) -> usize {
        self.proto.output.len()
    }

    /// Attributes that no rule read.
    pub fn unread(&self) -> Vec<&'m str> {
        let read = self.read.borrow();
        let mut names: Vec<_> =
            self.attributes.keys().copied().filter(|name| !read.contains(*name)).collect();
        names.sort_unstable();
        names
    }

    /// The attributes as they stand in the file, or in the call of the function that the node is part of.
    pub fn attributes(&self) -> &HashMap<&'m str, &'m AttributeProto> {
        &self.attributes
    }

    /// Notes that `other`, the same node on other operands, read what it did.
    pub fn read_as(&self, other: &Node<'m>) {
        self.read.borrow_mut().extend(other.read.borrow().iter().cloned());
    }

    // Operands.

    /// Operand `index`; `None` where it was left out.
    pub fn input(&self, index: usize) -> Option<&Imported> {
        self.inputs.get(index).and_then(Option::as_ref)
    }

    fn present(&self, index: usize) -> Result<&Imported, Stop<'m>> {
        self.input(index).ok_or_else(|| Stop::Invalid(format!("operand {index} is missing")))
    }

    /// Operand `index`, a tensor of numbers.
    pub fn tensor(&self, index: usize) -> Result<&Tensor, Stop<'m>> {
        match self.present(index)? {
            Imported::Tensor(tensor) => Ok(tensor),
            other => Err(Stop::Invalid(format!(
                "operand {index} is {}, expected a tensor of numbers",
                other.describe()
            ))),
        }
    }

    pub fn optional_tensor(&self, index: usize) -> Result<Option<&Tensor>, Stop<'m>> {
        self.input(index).map(|_| self.tensor(index)).transpose()
    }

    pub fn shape(&self, index: usize) -> Result<&Shape, Stop<'m>> {
        Ok(&self.tensor(index)?.shape)
    }

    pub fn rank(&self, index: usize) -> Result<usize, Stop<'m>> {
        Ok(self.tensor(index)?.rank())
    }

    pub fn dtype(&self, index: usize) -> Result<DType, Stop<'m>> {
        Ok(self.tensor(index)?.dtype)
    }

    /// Operand `index` in the graph.
    pub fn value(&self, cx: &mut Context<'m>, index: usize) -> Result<Value, Stop<'m>> {
        let tensor = self.tensor(index)?.clone();
        cx.value(&tensor)
    }

    /// Operand `index` in the graph; `None` where it was left out.
    pub fn optional(&self, cx: &mut Context<'m>, index: usize) -> Result<Option<Value>, Stop<'m>> {
        self.input(index).map(|_| self.value(cx, index)).transpose()
    }

    /// All operands in the graph; none may be left out.
    pub fn values(&self, cx: &mut Context<'m>) -> Result<Vec<Value>, Stop<'m>> {
        (0..self.inputs.len()).map(|index| self.value(cx, index)).collect()
    }

    /// The elements of operand `index`. Where they are not known yet, the run computes them first.
    pub fn literal(&self, cx: &mut Context<'m>, index: usize) -> Result<Literal, Stop<'m>> {
        let tensor = self.tensor(index)?;
        cx.known(tensor).ok_or(Stop::Value(index))?.map_err(Stop::Invalid)
    }

    pub fn optional_literal(&self, cx: &mut Context<'m>, index: usize) -> Result<Option<Literal>, Stop<'m>> {
        self.input(index).map(|_| self.literal(cx, index)).transpose()
    }

    /// The integers of operand `index`, which must be known.
    pub fn known_ints(&self, cx: &mut Context<'m>, index: usize) -> Result<Vec<i64>, Stop<'m>> {
        let literal = self.literal(cx, index)?;
        if !literal.dtype().is_int() {
            return Err(Stop::Invalid(format!("operand {index} is {}, expected integers", literal.ty())));
        }
        Ok(literal.to_ints().into_iter().map(|value| value as i64).collect())
    }

    /// The one integer of operand `index`, which must be known.
    pub fn known_int(&self, cx: &mut Context<'m>, index: usize) -> Result<i64, Stop<'m>> {
        match self.known_ints(cx, index)?[..] {
            [value] => Ok(value),
            ref other => {
                Err(Stop::Invalid(format!("operand {index} has {} elements, expected one", other.len())))
            }
        }
    }

    /// The integers of operand `index` as extents: known, or expressions over symbols.
    pub fn dims(&self, cx: &mut Context<'m>, index: usize) -> Result<Vec<Dim>, Stop<'m>> {
        match &self.tensor(index)?.content {
            Content::Dims(dims) => Ok(dims.clone()),
            _ => Ok(self.known_ints(cx, index)?.into_iter().map(Dim::from).collect()),
        }
    }

    /// Axes that stood in an attribute in older versions and are operand `index` now; `None` where there are none.
    pub fn axes(
        &self,
        cx: &mut Context<'m>,
        attribute: &str,
        index: usize,
    ) -> Result<Option<Vec<i64>>, Stop<'m>> {
        if let Some(axes) = self.ints(attribute)? {
            return Ok(Some(axes));
        }
        self.input(index).map(|_| self.known_ints(cx, index)).transpose()
    }

    // Attributes.

    fn attribute(&self, name: &str, expected: AttributeType) -> Result<Option<&'m AttributeProto>, Stop<'m>> {
        let Some(&attribute) = self.attributes.get(name) else { return Ok(None) };
        self.read.borrow_mut().insert(name.to_string());
        let found = attribute.r#type();
        // Files of the first versions state no types.
        if found != expected && found != AttributeType::Undefined {
            let (expected, found) = (expected.as_str_name(), found.as_str_name());
            return Err(Stop::Invalid(format!("attribute {name:?} is of type {found}, expected {expected}")));
        }
        Ok(Some(attribute))
    }

    pub fn has(&self, name: &str) -> bool {
        self.attributes.contains_key(name)
    }

    /// Notes that an attribute has no influence on what the node means here.
    pub fn without_influence(&self, name: &str) {
        self.read.borrow_mut().insert(name.to_string());
    }

    pub fn int(&self, name: &str) -> Result<Option<i64>, Stop<'m>> {
        Ok(self.attribute(name, AttributeType::Int)?.map(AttributeProto::i))
    }

    pub fn int_or(&self, name: &str, default: i64) -> Result<i64, Stop<'m>> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// A flag: an integer that is 0 or not.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, Stop<'m>> {
        Ok(self.int(name)?.map_or(default, |value| value != 0))
    }

    pub fn float(&self, name: &str) -> Result<Option<f32>, Stop<'m>> {
        Ok(self.attribute(name, AttributeType::Float)?.map(AttributeProto::f))
    }

    pub fn float_or(&self, name: &str, default: f32) -> Result<f32, Stop<'m>> {
        Ok(self.float(name)?.unwrap_or(default))
    }

    pub fn ints(&self, name: &str) -> Result<Option<Vec<i64>>, Stop<'m>> {
        Ok(self.attribute(name, AttributeType::Ints)?.map(|attribute| attribute.ints.clone()))
    }

    pub fn floats(&self, name: &str) -> Result<Option<Vec<f32>>, Stop<'m>> {
        Ok(self.attribute(name, AttributeType::Floats)?.map(|attribute| attribute.floats.clone()))
    }

    pub fn string(&self, name: &str) -> Result<Option<String>, Stop<'m>> {
        let text = |attribute: &AttributeProto| String::from_utf8(attribute.s().to_vec());
        let text = self.attribute(name, AttributeType::String)?.map(text).transpose();
        text.map_err(|_| Stop::Invalid(format!("attribute {name:?} is not UTF-8")))
    }

    pub fn string_or(&self, name: &str, default: &str) -> Result<String, Stop<'m>> {
        Ok(self.string(name)?.unwrap_or_else(|| default.to_string()))
    }

    pub fn strings(&self, name: &str) -> Result<Option<Vec<String>>, Stop<'m>> {
        let Some(attribute) = self.attribute(name, AttributeType::Strings)? else { return Ok(None) };
        let texts =
            attribute.strings.iter().map(|text| String::from_utf8(text.to_vec())).collect::<Result<_, _>>();
        texts.map(Some).map_err(|_| Stop::Invalid(format!("attribute {name:?} is not UTF-8")))
    }

    /// A tensor attribute.
    pub fn constant(&self, cx: &Context<'m>, name: &str) -> Result<Option<tensor::Read>, Stop<'m>> {
        let Some(attribute) = self.attribute(name, AttributeType::Tensor)? else { return Ok(None) };
        let missing = || Stop::Invalid(format!("attribute {name:?} has no tensor"));
        let proto = attribute.t.as_ref().ok_or_else(missing)?;
        let wrong = |reason| Stop::Invalid(format!("attribute {name:?}: {reason}"));
        let external = cx.model().external_bytes(proto).map_err(wrong)?;
        tensor::read(proto, external).map(Some).map_err(wrong)
    }

    /// The raw attribute, for what the methods above do not cover.
    pub fn raw(&self, name: &str, expected: AttributeType) -> Result<Option<&'m AttributeProto>, Stop<'m>> {
        self.attribute(name, expected)
    }

    /// A graph attribute, which must be there.
    pub fn graph(&self, name: &str) -> Result<&'m GraphProto, Stop<'m>> {
        let attribute = self.attribute(name, AttributeType::Graph)?;
        let graph = attribute.and_then(|attribute| attribute.g.as_ref());
        graph.ok_or_else(|| Stop::Invalid(format!("it has no graph {name:?}")))
    }

    /// `axis`, counted from the end where it is negative, as an axis of a tensor of rank `rank`.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize, Stop<'m>> {
        let shifted = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
        let legal = usize::try_from(shifted).ok().filter(|&axis| axis < rank);
        legal.ok_or_else(|| Stop::Invalid(format!("axis {axis} is out of range for rank {rank}")))
    }

    /// Several axes, none of them twice.
    pub fn axes_of(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>, Stop<'m>> {
        let list = axes.iter().map(|&axis| self.axis(axis, rank)).collect::<Result<Vec<_>, _>>()?;
        match list.iter().collect::<BTreeSet<_>>().len() == list.len() {
            true => Ok(list),
            false => Err(Stop::Invalid(format!("axes {axes:?} name one twice"))),
        }
    }
}
