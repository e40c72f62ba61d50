//! Feeds on a backend: what every executable with states promises about them.

use rlx_driver::{Backend, DriverError, ExecutableGraph, StateHandles, TensorRef};
use rlx_ir::{DType, Dim, Graph, Literal, Shape, TensorType};
use rlx_opt::CompileOptions;

/// `y = x + c`, `n = i32(x)` and `z = last + 1`, where `last` is a state.
fn graph() -> Graph {
    let mut g = Graph::new("feeds");
    let ty = TensorType::new(DType::F32, Shape::new([Dim::symbol("P")]));
    let (x, c) = (g.input("x", ty.clone()), g.input("c", ty));
    let last = g.state("last", TensorType::new(DType::F32, [2]));
    let one = g.scalar(DType::F32, 1.0);
    let (y, n, z) = (g.add(x, c), g.cast_to(x, DType::I32), g.add(last, one));
    g.output("y", y);
    g.output("n", n);
    g.output("z", z);
    g
}

fn floats(count: usize, value: f32) -> Literal {
    Literal::floats(DType::F32, &[count], &vec![f64::from(value); count]).expect("one value per element")
}

/// An executable and the words for what it did wrong.
struct Check(Box<dyn ExecutableGraph>);

impl Check {
    fn states(&mut self) -> Result<&mut dyn StateHandles, String> {
        self.0.states().ok_or_else(|| "the backend keeps no states".into())
    }

    /// A run with feeds on ones; its output `y` must be `count` times `expected`.
    fn feed(&mut self, count: usize, expected: f32) -> Result<(), String> {
        let x = floats(count, 1.0);
        let outputs = self.states()?.run_feed(&[("x", TensorRef::from(&x))]);
        let outputs = outputs.map_err(|error| error.to_string())?;
        same("y", &outputs[0].1, &floats(count, expected))
    }

    fn handle(&mut self, name: &str, expected: &Literal) -> Result<(), String> {
        let found = self.states()?.read_handle(name).map_err(|error| error.to_string())?;
        same(name, &found, expected)
    }
}

fn same(what: &str, found: &Literal, expected: &Literal) -> Result<(), String> {
    match found == expected {
        true => Ok(()),
        false => Err(format!("{what}: found {found:?}, expected {expected:?}")),
    }
}

fn refused<T>(what: &str, result: Result<T, DriverError>, words: &str) -> Result<(), String> {
    match result {
        Err(error) if error.to_string().contains(words) => Ok(()),
        Err(error) => Err(format!("{what}: the error lacks \"{words}\": {error}")),
        Ok(_) => Err(format!("{what} is not refused")),
    }
}

/// Feeds of inputs and of states, runs beside them, and what must be refused.
///
/// # Errors
/// The first thing that is not as promised.
pub fn check_feeds(backend: &dyn Backend) -> Result<(), String> {
    let compiled = backend.compile(graph(), &CompileOptions::default());
    let mut check = Check(compiled.map_err(|error| error.to_string())?);
    refused("an unknown output", check.states()?.set_feed("c", "w"), "no output \"w\"")?;
    refused("an unknown input", check.states()?.set_feed("w", "y"), "no input or state \"w\"")?;
    refused("another dtype", check.states()?.set_feed("c", "n"), "expected f32[P], found i32[P]")?;
    for (name, output) in [("c", "y"), ("last", "z")] {
        check.states()?.set_feed(name, output).map_err(|error| error.to_string())?;
    }
    if !check.states()?.has_handle("c") {
        return Err("a fed input is no handle".into());
    }
    let (x, c) = (floats(4, 1.0), floats(4, 0.0));
    let both = [("x", TensorRef::from(&x)), ("c", TensorRef::from(&c))];
    refused("a first run without content", check.states()?.run_feed(&both[..1]), "\"c\"")?;
    check.states()?.run_feed(&both).map_err(|error| error.to_string())?;
    check.feed(4, 2.0)?;
    // Other runs neither use nor change what is fed.
    refused("a plain run without the input", check.0.run_typed(&both[..1]), "is missing")?;
    check.0.run_typed(&both).map_err(|error| error.to_string())?;
    check.handle("c", &floats(4, 2.0))?;
    check.handle("last", &floats(2, 2.0))?;
    // The kept content has four elements.
    let longer = floats(6, 1.0);
    refused("another extent", check.states()?.run_feed(&[("x", TensorRef::from(&longer))]), "f32[P]")?;
    let content = Literal::ints(DType::I64, &[6], &[5; 6]).expect("one value per element");
    refused("i64 content", check.states()?.bind_handle("c", TensorRef::from(&content)), "found i64[6]")?;
    let content = floats(6, 5.0);
    check.states()?.bind_handle("c", TensorRef::from(&content)).map_err(|error| error.to_string())?;
    check.feed(6, 6.0)?;
    check.feed(6, 7.0)?;
    check.handle("c", &floats(6, 7.0))?;
    check.handle("last", &floats(2, 4.0))
}
