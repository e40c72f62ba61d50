//! Products of matrices on a backend whose number of rows is known only when they run.
//!
//! Backends choose among kernels by the number of rows; every choice must give the same results.

use rlx_driver::{Backend, TensorRef};
use rlx_ir::accuracy::{Accuracy, compare};
use rlx_ir::interpret::{Tensors, evaluate};
use rlx_ir::op::Fill;
use rlx_ir::sample::{Generator, fill_literal};
use rlx_ir::{DType, Dim, Graph, Shape, TensorType};
use rlx_opt::CompileOptions;

const DEPTH: usize = 40;
const COLUMNS: usize = 70;

/// A product of `[2, M, 40]`.
#[derive(Clone, Copy, Debug)]
struct Product {
    dtype: DType,
    /// Is there one second matrix for each of the batch?
    batched: bool,
    /// Is the second matrix transposed?
    transposed: bool,
}

impl Product {
    fn second(self) -> TensorType {
        let matrix = if self.transposed { [COLUMNS, DEPTH] } else { [DEPTH, COLUMNS] };
        let dims = self.batched.then_some(2).into_iter().chain(matrix);
        TensorType::new(self.dtype, Shape::new(dims.map(Dim::from).collect::<Vec<_>>()))
    }

    fn first(self, rows: Dim) -> TensorType {
        TensorType::new(self.dtype, Shape::new([Dim::from(2), rows, Dim::from(DEPTH)]))
    }

    /// `y = x . w + b`.
    fn graph(self) -> Result<Graph, String> {
        let mut g = Graph::new("product");
        let x = g.input("x", self.first(Dim::symbol("M")));
        let w = g.input("w", self.second());
        let b = g.input("b", TensorType::new(self.dtype, [COLUMNS]));
        let product = g.matmul(x, w, false, self.transposed);
        let y = g.add(product, b);
        g.output("y", y);
        g.finish().map_err(|error| error.to_string())
    }

    fn check(self, backend: &dyn Backend) -> Result<(), String> {
        let graph = self.graph()?;
        let compiled = backend.compile(graph.clone(), &CompileOptions::default());
        let mut executable = compiled.map_err(|error| error.to_string())?;
        let mut generator = Generator::new(5);
        for rows in [1, 4, 5, 16, 17, 65, 1] {
            let bias = TensorType::new(self.dtype, [COLUMNS]);
            let types = [("x", self.first(Dim::from(rows))), ("w", self.second()), ("b", bias)];
            let fill = |(name, ty): (&str, TensorType)| {
                (name.to_string(), fill_literal(&ty, Fill::Range(-2.0, 2.0), &mut generator))
            };
            let feeds: Tensors = types.into_iter().map(fill).collect();
            let inputs: Vec<(&str, TensorRef<'_>)> =
                feeds.iter().map(|(name, literal)| (name.as_str(), literal.into())).collect();
            let outputs = executable.run_typed(&inputs).map_err(|error| error.to_string())?;
            let expected = evaluate(&graph, &feeds).map_err(|error| error.to_string())?;
            let accuracy = Accuracy::Accumulated { terms: DEPTH };
            compare(&outputs[0].1, &expected.outputs[0].1, accuracy, None)
                .map_err(|error| format!("{rows} rows of {self:?}: {error}"))?;
        }
        Ok(())
    }
}

/// Products of few and of many rows, against the interpreter.
///
/// # Errors
/// The first product that is off.
pub fn check_products(backend: &dyn Backend) -> Result<(), String> {
    let product = |dtype, batched, transposed| Product { dtype, batched, transposed };
    product(DType::F32, false, false).check(backend)?;
    product(DType::F32, true, true).check(backend)?;
    product(DType::F32, false, true).check(backend)?;
    product(DType::I32, true, false).check(backend)
}
