//! Parsing graphs and modules. No panic, no recursion deeper than
//! [`MAX_DEPTH`], no allocation larger than the text asks for.

use super::lexer::Lexer;
use crate::attr::Attr;
use crate::body::{Body, MAX_BODY_DEPTH};
use crate::custom::CustomRegistry;
use crate::diagnostic::{Diagnostic, IrError};
use crate::dim::{Dim, MAX_WEIGHT, is_symbol_name};
use crate::dtype::DType;
use crate::graph::{Graph, NodeId, Origin, SymbolBounds, Value};
use crate::hir::{HirBlock, HirModule, HirValue};
use crate::literal::{Literal, element_count};
use crate::mir::GraphModule;
use crate::number::Number;
use crate::op::{AttrProblem, Fill};
use crate::ops::OpKind;
use crate::scalar::{ScalarInstr, ScalarKind, ScalarOp, ScalarProgram};
use crate::shape::{Shape, TensorType};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Deepest nesting of parentheses and lists.
const MAX_DEPTH: usize = 64;
/// Most attributes of a node.
const MAX_ATTRIBUTES: usize = 64;

/// Finds the bytes of a constant that stands in the text as `#key`.
pub type ConstantSource<'a> = &'a dyn Fn(&str) -> Option<Literal>;

/// Reads one graph.
///
/// # Errors
/// [`IrError::Syntax`] with the line, or what the verifier finds.
pub fn parse_graph(text: &str) -> Result<Graph, IrError> {
    parse_graph_with(text, &|_| None)
}

/// Reads one graph whose large constants live elsewhere.
///
/// # Errors
/// As [`parse_graph`], and a constant that `constants` does not know.
pub fn parse_graph_with(text: &str, constants: ConstantSource<'_>) -> Result<Graph, IrError> {
    parse_graph_using(text, constants, &CustomRegistry::default())
}

/// Reads one graph whose user ops are in `registry`, and whose large constants live elsewhere.
///
/// # Errors
/// As [`parse_graph_with`], and a user op that `registry` does not hold in the version of the text.
pub fn parse_graph_using(
    text: &str,
    constants: ConstantSource<'_>,
    registry: &CustomRegistry,
) -> Result<Graph, IrError> {
    let mut parser = Parser { registry, constants, ..Parser::new(text) };
    parser.header()?;
    let graph = parser.graph("graph")?;
    parser.end()?;
    graph.finish()
}

/// Reads a module of named blocks.
///
/// # Errors
/// As [`parse_graph`], and what [`HirModule::check`] finds.
pub fn parse_module(text: &str) -> Result<HirModule, IrError> {
    let mut parser = Parser::new(text);
    parser.header()?;
    let module = parser.module()?;
    parser.end()?;
    module.check()?;
    Ok(module)
}

/// Reads a graph or a module of named blocks, whichever the text holds.
///
/// # Errors
/// As [`parse_graph`] and [`parse_module`].
pub fn parse_any(text: &str) -> Result<GraphModule, IrError> {
    let mut parser = Parser::new(text);
    parser.header()?;
    if parser.lexer.rest().starts_with("module") {
        parse_module(text).map(GraphModule::Hir)
    } else if parser.lexer.rest().starts_with("graph") {
        parse_graph(text).map(GraphModule::Mir)
    } else {
        parser.lexer.expected("`graph` or `module`")
    }
}

/// The operands of a sample, and its attributes.
type SampleLine = (Vec<(TensorType, Fill)>, Vec<(String, Attr)>);

/// Reads a line of [`Samples::Listed`](crate::op::Samples): the operands of a sample and its attributes.
pub(crate) fn parse_sample(line: &str) -> Parsed<SampleLine> {
    let mut parser = Parser::new(line);
    let mut operands = vec![];
    while !matches!(parser.lexer.peek(), None | Some(b'{')) {
        operands.push((parser.tensor_type()?, parser.fill()?));
        if !parser.lexer.eat(",") {
            break;
        }
    }
    let attrs = parser.attrs()?;
    parser.end()?;
    Ok((operands, attrs))
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    constants: ConstantSource<'a>,
    registry: &'a CustomRegistry,
    depth: usize,
    /// Graphs around.
    bodies: u32,
}

type Parsed<T> = Result<T, IrError>;

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Parser<'a> {
        static NONE: CustomRegistry = CustomRegistry::empty();
        Parser { lexer: Lexer::new(text), constants: &|_| None, registry: &NONE, depth: 0, bodies: 0 }
    }

    fn header(&mut self) -> Parsed<()> {
        if !self.lexer.eat_word("rlx") {
            let found = self.lexer.describe();
            let message = format!("expected `rlx {}`, found {found}", super::VERSION);
            let hint = "is this a file in the RLX text form?";
            return Err(IrError::Syntax(Diagnostic::new("text", message).hint(hint).line(self.lexer.line())));
        }
        let version = self.lexer.integer()?;
        if version != i64::from(super::VERSION) {
            let message = format!("this build reads version {}, found version {version}", super::VERSION);
            return Err(self.lexer.error("text", message));
        }
        Ok(())
    }

    fn end(&mut self) -> Parsed<()> {
        if self.lexer.rest().is_empty() { Ok(()) } else { self.lexer.expected("the end of the text") }
    }

    fn module(&mut self) -> Parsed<HirModule> {
        if !self.lexer.eat_word("module") {
            return self.lexer.expected("`module`");
        }
        let mut module = HirModule::new(self.lexer.string()?);
        self.lexer.expect("{")?;
        while !self.lexer.eat("}") {
            if self.lexer.rest().starts_with("body") {
                let body = self.graph("body")?.finish()?;
                module.bodies.push(Arc::new(body));
            } else if self.lexer.eat_word("block") {
                let block = self.block(&module)?;
                module.blocks.push(block);
            } else if self.lexer.eat_word("output") {
                let name = self.lexer.string()?;
                self.lexer.expect("=")?;
                let source = self.hir_value()?;
                module.outputs.push((name, source));
            } else {
                return self.lexer.expected("`body`, `block`, `output` or `}`");
            }
        }
        Ok(module)
    }

    fn block(&mut self, module: &HirModule) -> Parsed<HirBlock> {
        let path = self.lexer.string()?;
        self.lexer.expect("=")?;
        let name = self.lexer.string()?;
        let Some(body) = module.bodies.iter().position(|body| body.name == name) else {
            return Err(self
                .lexer
                .error(format!("block \"{path}\""), format!("there is no body \"{name}\" before it")));
        };
        let mut inputs = BTreeMap::new();
        self.lexer.expect("(")?;
        while !self.lexer.eat(")") {
            let name = self.lexer.string()?;
            self.lexer.expect("=")?;
            let source = self.hir_value()?;
            if inputs.contains_key(&name) {
                return Err(self
                    .lexer
                    .error(format!("block \"{path}\""), format!("input \"{name}\" is given twice")));
            }
            inputs.insert(name, source);
            if !self.lexer.eat(",") && self.lexer.peek() != Some(b')') {
                return self.lexer.expected("`,` or `)`");
            }
        }
        Ok(HirBlock { path, body, inputs })
    }

    fn hir_value(&mut self) -> Parsed<HirValue> {
        if self.lexer.eat_word("input") {
            return Ok(HirValue::Input(self.lexer.string()?));
        }
        let block = self.lexer.string()?;
        self.lexer.expect(".")?;
        Ok(HirValue::Block { path: block, output: self.lexer.string()? })
    }

    fn graph(&mut self, keyword: &str) -> Parsed<Graph> {
        if !self.lexer.eat_word(keyword) {
            return self.lexer.expected(&format!("`{keyword}`"));
        }
        let mut graph = Graph::new(self.lexer.string()?);
        let mut values: HashMap<&'a str, NodeId> = HashMap::new();
        let mut symbols = HashSet::new();
        self.lexer.expect("{")?;
        while !self.lexer.eat("}") {
            if self.lexer.eat("%") {
                self.node(&mut graph, &mut values)?;
            } else if self.lexer.eat_word("symbol") {
                self.symbol(&mut graph, &mut symbols)?;
            } else if self.lexer.eat_word("output") {
                let name = self.lexer.string()?;
                self.lexer.expect("=")?;
                let value = self.value(&graph, &values)?;
                graph.output(name, value);
            } else if self.lexer.eat_word("update") {
                let name = self.lexer.string()?;
                self.lexer.expect("=")?;
                let value = self.value(&graph, &values)?;
                graph.update_state(name, value);
            } else {
                return self.lexer.expected("`%`, `symbol`, `output`, `update` or `}`");
            }
        }
        Ok(graph)
    }

    fn symbol(&mut self, graph: &mut Graph, declared: &mut HashSet<&'a str>) -> Parsed<()> {
        let Some(name) = self.lexer.word() else { return self.lexer.expected("a symbol name") };
        self.check_symbol(name)?;
        if !declared.insert(name) {
            return Err(self.lexer.error(format!("symbol {name}"), "is declared twice"));
        }
        let mut bounds = SymbolBounds::default();
        if self.lexer.eat_word("in") {
            self.lexer.expect("[")?;
            bounds.min = self.lexer.integer()?;
            self.lexer.expect(",")?;
            bounds.max = if self.lexer.eat_word("inf") { None } else { Some(self.lexer.integer()?) };
            self.lexer.expect("]")?;
        }
        graph.bound_symbol(name, bounds);
        Ok(())
    }

    fn value(&mut self, graph: &Graph, values: &HashMap<&'a str, NodeId>) -> Parsed<Value> {
        self.lexer.expect("%")?;
        let name = self.lexer.name()?;
        let Some(&node) = values.get(name) else {
            return Err(self.lexer.error(format!("%{name}"), "no such value before this line"));
        };
        let result = if self.lexer.eat(".") { self.lexer.integer()? } else { 0 };
        let value = Value { node, result: u32::try_from(result).unwrap_or(u32::MAX) };
        if graph.try_ty(value).is_none() {
            let count = graph.node(node).types.len();
            return Err(self
                .lexer
                .error(format!("%{name}.{result}"), format!("%{name} has {count} results")));
        }
        Ok(value)
    }

    fn node(&mut self, graph: &mut Graph, values: &mut HashMap<&'a str, NodeId>) -> Parsed<()> {
        let name = self.lexer.name()?;
        if values.contains_key(name) {
            return Err(self.lexer.error(format!("%{name}"), "is defined twice"));
        }
        self.lexer.expect("=")?;
        let Some(mnemonic) = self.lexer.word() else { return self.lexer.expected("an op name") };
        let Some(kind) = OpKind::parse(mnemonic) else {
            return Err(self.unknown_op(mnemonic));
        };
        let line = self.lexer.line();
        let mut operands = vec![];
        while self.lexer.peek() == Some(b'%') {
            operands.push(self.value(graph, values)?);
            if !self.lexer.eat(",") {
                break;
            }
            if self.lexer.peek() != Some(b'%') {
                return self.lexer.expected("an operand such as %0");
            }
        }
        let mut attrs = self.attrs()?;
        let declared = self.declared_types()?;
        if kind.def().name != "constant"
            && let ("leaf", Some(ty)) = (kind.def().family, declared.first())
        {
            attrs.push(("result".into(), Attr::Type(ty.clone())));
        }
        let path = if self.lexer.eat("@") { self.lexer.string()? } else { String::new() };
        let op = kind.from_attrs(&attrs).map_err(|problem| {
            let message = match problem {
                AttrProblem::Missing("result") => "needs its type after a colon".to_string(),
                other => other.to_string(),
            };
            IrError::Syntax(Diagnostic::new(mnemonic, message).line(line))
        })?;
        let origin = Origin { path: path.as_str().into(), location: None };
        let results = graph.try_push(op, &operands, origin).map_err(|diagnostic| {
            IrError::Syntax(
                diagnostic.unwrap_or_else(|| Diagnostic::new(mnemonic, "has a poisoned operand")).line(line),
            )
        })?;
        for (index, ty) in declared.iter().enumerate() {
            let inferred = results.get(index).map(|&value| graph.ty(value).clone());
            if inferred.as_ref() != Some(ty) {
                let inferred = inferred.map_or_else(|| "nothing".into(), |ty| ty.to_string());
                let message = format!("declared type {ty} differs from the inferred type {inferred}");
                return Err(IrError::Syntax(Diagnostic::new(mnemonic, message).line(line)));
            }
        }
        // A node without results still has an id: the last one pushed.
        values.insert(name, NodeId(graph.nodes().len() as u32 - 1));
        Ok(())
    }

    fn unknown_op(&mut self, mnemonic: &str) -> IrError {
        let near = crate::nearest_name(mnemonic, OpKind::ALL.iter().map(|kind| kind.def().name));
        let mut diagnostic =
            Diagnostic::new(mnemonic, format!("there is no op {mnemonic}")).line(self.lexer.line());
        if let Some(name) = near {
            diagnostic = diagnostic.hint(format!("did you mean {name}?"));
        }
        IrError::Syntax(diagnostic)
    }

    fn declared_types(&mut self) -> Parsed<Vec<TensorType>> {
        let mut types = vec![];
        if self.lexer.eat(":") {
            loop {
                types.push(self.tensor_type()?);
                if !self.lexer.eat(",") {
                    break;
                }
            }
        }
        Ok(types)
    }

    fn tensor_type(&mut self) -> Parsed<TensorType> {
        let Some(word) = self.lexer.word() else { return self.lexer.expected("a type such as f32[2, 3]") };
        let Some(dtype) = DType::parse(word) else {
            return Err(self.lexer.error(word, "is not a dtype"));
        };
        Ok(TensorType::new(dtype, self.shape()?))
    }

    fn fill(&mut self) -> Parsed<Fill> {
        if self.lexer.eat_word("definite") {
            return Ok(Fill::Definite);
        }
        if !self.lexer.eat_word("in") {
            return Ok(Fill::Any);
        }
        self.lexer.expect("[")?;
        let low = self.real()?;
        self.lexer.expect(",")?;
        let high = self.real()?;
        self.lexer.expect(")")?;
        Ok(Fill::Range(low, high))
    }

    fn shape(&mut self) -> Parsed<Shape> {
        self.lexer.expect("[")?;
        let mut dims = vec![];
        while !self.lexer.eat("]") {
            dims.push(self.dim()?);
            if !self.lexer.eat(",") && self.lexer.peek() != Some(b']') {
                return self.lexer.expected("`,` or `]`");
            }
        }
        Ok(Shape::from(dims))
    }

    fn attrs(&mut self) -> Parsed<Vec<(String, Attr)>> {
        let mut attrs: Vec<(String, Attr)> = vec![];
        if !self.lexer.eat("{") {
            return Ok(attrs);
        }
        while !self.lexer.eat("}") {
            let Some(name) = self.lexer.word() else { return self.lexer.expected("an attribute name") };
            if attrs.iter().any(|(key, _)| key == name) {
                return Err(self.lexer.error(name, "is given twice"));
            }
            if attrs.len() == MAX_ATTRIBUTES {
                return Err(self
                    .lexer
                    .error(name, format!("no op has more than {MAX_ATTRIBUTES} attributes")));
            }
            self.lexer.expect("=")?;
            attrs.push((name.to_string(), self.attr()?));
            if !self.lexer.eat(",") && self.lexer.peek() != Some(b'}') {
                return self.lexer.expected("`,` or `}`");
            }
        }
        Ok(attrs)
    }

    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth == MAX_DEPTH {
            return Err(self
                .lexer
                .error("text", format!("is nested too deeply (more than {MAX_DEPTH} levels)")));
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    fn attr(&mut self) -> Parsed<Attr> {
        if self.lexer.eat_word("program") {
            return Ok(Attr::Program(Arc::new(self.program()?)));
        }
        if self.names_string("graph") {
            return self.body();
        }
        if self.names_string("custom") {
            return self.custom();
        }
        match self.lexer.peek() {
            Some(b'"') => return Ok(Attr::Text(self.lexer.string()?)),
            Some(b'[') => return self.nested(Self::list),
            Some(c) if c.is_ascii_alphabetic() || c == b'_' => {
                if let Some(attr) = self.word_attr()? {
                    return Ok(attr);
                }
            }
            Some(_) => {
                if let Some(value) = self.try_real()? {
                    return Ok(Attr::Real(value));
                }
            }
            None => {}
        }
        self.dim().map(Attr::Dim)
    }

    /// Does `word` stand here, and a string after it?
    fn names_string(&mut self, word: &str) -> bool {
        self.lexer.rest().strip_prefix(word).is_some_and(|after| after.trim_start().starts_with('"'))
    }

    fn body(&mut self) -> Parsed<Attr> {
        if self.bodies == MAX_BODY_DEPTH {
            let message = format!("graphs nest deeper than {MAX_BODY_DEPTH} levels");
            return Err(self.lexer.error("text", message));
        }
        self.bodies += 1;
        let graph = self.nested(|parser| parser.graph("graph"));
        self.bodies -= 1;
        Ok(Attr::Body(Body::from(graph?)))
    }

    fn custom(&mut self) -> Parsed<Attr> {
        self.lexer.eat_word("custom");
        let name = self.lexer.string()?;
        let version = self.lexer.integer()?;
        let message = match self.registry.get(&name) {
            Some(op) if i64::from(op.version()) == version => return Ok(Attr::Custom(op.clone())),
            Some(op) => format!("the registry holds version {}, found version {version}", op.version()),
            None => {
                let near = crate::nearest_name(&name, self.registry.names());
                let near = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
                format!("the registry that the text is read with holds no such user op{near}")
            }
        };
        Err(self.lexer.error(format!("custom {name:?}"), message))
    }

    fn list(&mut self) -> Parsed<Attr> {
        self.lexer.expect("[")?;
        let mut items = vec![];
        while !self.lexer.eat("]") {
            items.push(self.attr()?);
            if !self.lexer.eat(",") && self.lexer.peek() != Some(b']') {
                return self.lexer.expected("`,` or `]`");
            }
        }
        Ok(Attr::List(items))
    }

    /// A word, a type or a typed constant; `None` (nothing consumed) before a dim expression.
    fn word_attr(&mut self) -> Parsed<Option<Attr>> {
        let rest = self.lexer.rest();
        let end = rest.bytes().position(|b| !b.is_ascii_alphanumeric() && b != b'_').unwrap_or(rest.len());
        let (word, after) = (&rest[..end], rest[end..].trim_start());
        if after.starts_with('[') && DType::parse(word).is_some() {
            let ty = self.tensor_type()?;
            return if self.lexer.eat(":") {
                self.literal(&ty).map(|l| Some(Attr::Literal(l)))
            } else {
                Ok(Some(Attr::Type(ty)))
            };
        }
        if after.starts_with(['+', '-', '*', '(']) {
            return Ok(None);
        }
        self.lexer.word();
        Ok(Some(match word {
            "inf" => Attr::Real(f64::INFINITY),
            "nan" => Attr::Real(f64::NAN),
            _ => Attr::Word(word.to_string()),
        }))
    }

    /// A number with fraction, exponent, `inf` or `nan`; `None` (nothing consumed) before a dim.
    fn try_real(&mut self) -> Parsed<Option<f64>> {
        let rest = self.lexer.rest();
        let unsigned = rest.strip_prefix('-').unwrap_or(rest).trim_start();
        let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
        let is_real = unsigned.starts_with("inf")
            || unsigned.starts_with("nan")
            || (digits > 0 && matches!(unsigned.as_bytes().get(digits), Some(b'.' | b'e' | b'E')));
        if is_real { self.real().map(Some) } else { Ok(None) }
    }

    fn real(&mut self) -> Parsed<f64> {
        let sign = if self.lexer.eat("-") { -1.0 } else { 1.0 };
        if self.lexer.eat_word("inf") {
            return Ok(sign * f64::INFINITY);
        }
        if self.lexer.eat_word("nan") {
            return Ok(f64::NAN);
        }
        match self.lexer.number() {
            Some(number) => number
                .parse::<f64>()
                .map(|x| sign * x)
                .map_err(|_| self.lexer.error(number, "is not a number")),
            None => self.lexer.expected("a number"),
        }
    }

    fn literal(&mut self, ty: &TensorType) -> Parsed<Literal> {
        let subject = ty.to_string();
        let Some(dims) = ty.shape.as_static() else {
            return Err(self.lexer.error(subject, "a constant needs static extents"));
        };
        if self.lexer.eat("#") {
            let key = self.lexer.name()?;
            let found = (self.constants)(key);
            let Some(literal) = found else {
                return Err(self.lexer.error(format!("#{key}"), "no side file holds this constant"));
            };
            return if literal.ty() == *ty {
                Ok(literal)
            } else {
                Err(self
                    .lexer
                    .error(format!("#{key}"), format!("expected {ty}, the side file holds {}", literal.ty())))
            };
        }
        if self.lexer.eat("x") {
            let hex = self.lexer.string()?;
            let digits: Option<Vec<u8>> = hex.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
            let Some(digits) = digits.filter(|digits| digits.len() % 2 == 0) else {
                return Err(self.lexer.error(subject, "bytes must be pairs of hexadecimal digits"));
            };
            let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
            return Literal::from_bytes(ty.dtype, &dims, &bytes)
                .map_err(|error| self.lexer.error(subject, error.to_string()));
        }
        self.readable_literal(ty, &dims)
    }

    fn readable_literal(&mut self, ty: &TensorType, dims: &[usize]) -> Parsed<Literal> {
        let mut numbers = vec![];
        self.lexer.expect("[")?;
        while !self.lexer.eat("]") {
            numbers.push(self.element(ty.dtype)?);
            if !self.lexer.eat(",") && self.lexer.peek() != Some(b']') {
                return self.lexer.expected("`,` or `]`");
            }
        }
        if element_count(dims) != Some(numbers.len()) {
            let message = format!("{} values are given for shape {}", numbers.len(), ty.shape);
            return Err(self.lexer.error(ty.to_string(), message));
        }
        Literal::from_numbers(ty.dtype, dims, numbers)
            .map_err(|error| self.lexer.error(ty.to_string(), error.to_string()))
    }

    fn element(&mut self, dtype: DType) -> Parsed<Number> {
        if dtype == DType::Bool {
            return match self.lexer.word() {
                Some("true") => Ok(Number::Int(1)),
                Some("false") => Ok(Number::Int(0)),
                _ => self.lexer.expected("true or false"),
            };
        }
        if dtype.is_float() {
            return self.real().map(Number::Float);
        }
        if dtype.is_complex() {
            let re = self.real()?;
            self.lexer.expect(",")?;
            return Ok(Number::Complex(re, self.real()?));
        }
        let negative = self.lexer.eat("-");
        let digits = self.lexer.number().unwrap_or_default();
        let value: Option<i128> = digits.parse().ok().map(|v: i128| if negative { -v } else { v });
        let range = dtype.int_range().unwrap_or((0, 0));
        match value.filter(|v| (range.0..=range.1).contains(v)) {
            Some(value) => Ok(Number::Int(value)),
            None => Err(self.lexer.error(digits, format!("is not a value of {dtype}"))),
        }
    }

    fn dim(&mut self) -> Parsed<Dim> {
        let mut sum = self.dim_product()?;
        loop {
            if self.lexer.eat("+") {
                sum = sum + self.dim_product()?;
            } else if self.lexer.eat("-") {
                sum = sum - self.dim_product()?;
            } else {
                return Ok(sum);
            }
            sum = self.checked_size(sum)?;
        }
    }

    fn checked_size(&mut self, dim: Dim) -> Parsed<Dim> {
        if dim.is_too_large() {
            let message = format!("has a number beyond 64 bits or more than {MAX_WEIGHT} parts");
            return Err(self.lexer.error("dim expression", message));
        }
        Ok(dim)
    }

    fn check_symbol(&mut self, name: &str) -> Parsed<()> {
        if is_symbol_name(name) {
            Ok(())
        } else {
            Err(self.lexer.error(name, "is a reserved word; call the symbol something else"))
        }
    }

    fn dim_product(&mut self) -> Parsed<Dim> {
        let mut product = self.dim_atom()?;
        while self.lexer.eat("*") {
            let factor = self.dim_atom()?;
            product = self.checked_size(product * factor)?;
        }
        Ok(product)
    }

    /// Decimal digits after `sign`; together, so that the smallest integer is one too.
    fn extent(&mut self, sign: &str) -> Parsed<Dim> {
        match self.lexer.number() {
            Some(digits) => format!("{sign}{digits}")
                .parse::<i64>()
                .map(Dim::from)
                .map_err(|_| self.lexer.error(digits, "is not an extent")),
            None => self.lexer.expected("an integer expression"),
        }
    }

    fn dim_atom(&mut self) -> Parsed<Dim> {
        if self.lexer.eat("-") {
            if self.lexer.peek().is_some_and(|next| next.is_ascii_digit()) {
                return self.extent("-");
            }
            let dim = self.nested(Self::dim_atom)?;
            return self.checked_size(-dim);
        }
        if self.lexer.eat("(") {
            let dim = self.nested(Self::dim)?;
            self.lexer.expect(")")?;
            return Ok(dim);
        }
        let Some(word) = self.lexer.word() else {
            return self.extent("");
        };
        if !self.lexer.eat("(") {
            self.check_symbol(word)?;
            return Ok(Dim::symbol(word));
        }
        let a = self.nested(Self::dim)?;
        self.lexer.expect(",")?;
        let b = self.nested(Self::dim)?;
        self.lexer.expect(")")?;
        let dim = match word {
            "floordiv" => a.floor_div(&b),
            "mod" => a.modulo(&b),
            "min" => a.minimum(&b),
            "max" => a.maximum(&b),
            _ => {
                let message = "is not a function of dims; use floordiv, mod, min or max";
                return Err(self.lexer.error(word, message));
            }
        };
        self.checked_size(dim)
    }

    fn program(&mut self) -> Parsed<ScalarProgram> {
        let mut program = ScalarProgram::default();
        self.lexer.expect("(")?;
        while !self.lexer.eat(")") {
            program.inputs.push(self.dtype()?);
            if !self.lexer.eat(",") && self.lexer.peek() != Some(b')') {
                return self.lexer.expected("`,` or `)`");
            }
        }
        self.lexer.expect("{")?;
        while !self.lexer.eat_word("return") {
            let number = self.lexer.integer()?;
            let next = (program.inputs.len() + program.instrs.len()) as i64;
            if number != next {
                return Err(self.lexer.error("program", format!("expected value {next}, found {number}")));
            }
            self.lexer.expect("=")?;
            let instr = self.instr()?;
            program.instrs.push(instr);
        }
        while self.lexer.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            program.outputs.push(self.value_number()?);
        }
        self.lexer.expect("}")?;
        program.check().map_err(|problem| self.lexer.error("program", problem))?;
        Ok(program)
    }

    fn instr(&mut self) -> Parsed<ScalarInstr> {
        let Some(word) = self.lexer.word() else { return self.lexer.expected("a scalar op") };
        let kind = match word {
            "real" => ScalarKind::Float(self.real()?.to_bits()),
            "int" => ScalarKind::Int(self.lexer.integer()?),
            "index" => ScalarKind::Index(self.value_number()?),
            name => match ScalarOp::parse(name) {
                Some(op) => ScalarKind::Op(op),
                None => return Err(self.lexer.error(name, "is not a scalar op")),
            },
        };
        let mut args = vec![];
        while self.lexer.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            args.push(self.value_number()?);
        }
        self.lexer.expect(":")?;
        let dtype = self.dtype()?;
        self.lexer.expect(",")?;
        Ok(ScalarInstr { kind, args, dtype })
    }

    fn value_number(&mut self) -> Parsed<u32> {
        let number = self.lexer.integer()?;
        u32::try_from(number)
            .map_err(|_| self.lexer.error("program", format!("{number} is not a value number")))
    }

    fn dtype(&mut self) -> Parsed<DType> {
        match self.lexer.word().and_then(DType::parse) {
            Some(dtype) => Ok(dtype),
            None => self.lexer.expected("a dtype"),
        }
    }
}
