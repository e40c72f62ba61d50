//! The functions of the golden file.
//!
//! `tests/golden/gradients.rlx` holds graphs in the text form, made by a recipe in
//! `recipes/`: functions of inputs `x0`, `x1`, .. with the output `y`. Beside it
//! stand constants: `feed:NAME` for each input, `expected:y`, and
//! `expected:grad:NAME`.

use rlx_ir::interpret::Tensors;
use rlx_ir::text::parse_graph;
use rlx_ir::{Graph, Literal, Op};
use std::collections::BTreeMap;

/// One function.
pub struct Golden {
    /// With the outputs that are no constants.
    pub graph: Graph,
    /// Its inputs.
    pub feeds: Tensors,
    /// Its outputs, and its gradients under the names that `value_and_grad` gives them.
    pub expected: BTreeMap<String, Literal>,
}

/// Every function of the golden file, its outputs that are constants taken away.
pub fn golden() -> Vec<Golden> {
    let text = include_str!("../golden/gradients.rlx");
    let parts = text.split("rlx 1\n").filter(|part| !part.trim().is_empty());
    let parsed = parts.map(|part| {
        let mut graph = parse_graph(&format!("rlx 1\n{part}")).unwrap();
        let (mut feeds, mut expected, mut outputs) = (Tensors::new(), BTreeMap::new(), vec![]);
        for output in graph.outputs() {
            let constant = || match graph.op(output.value) {
                Op::Constant(constant) => constant.value.clone(),
                other => panic!("{} is {other:?}", output.name),
            };
            match (output.name.strip_prefix("feed:"), output.name.strip_prefix("expected:")) {
                (Some(name), _) => drop(feeds.insert(name.to_string(), constant())),
                (_, Some(name)) => drop(expected.insert(name.to_string(), constant())),
                _ => outputs.push((output.name.clone(), output.value)),
            }
        }
        graph.set_outputs(outputs);
        Golden { graph, feeds, expected }
    });
    parsed.collect()
}
