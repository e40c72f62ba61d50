//! The text form of graphs: printer and parser with an exact round trip.
//!
//! ```text
//! rlx 1
//! graph "attention" {
//!   symbol S in [1, 512]
//!   %0 = input {name = "x"} : f32[S, 64]
//!   %1 = softmax %0 {axis = 1} : f32[S, 64]
//!   output "y" = %1
//! }
//! ```
//!
//! Values are `%name`, or `%name.1` for results after the first. The type after
//! the colon may be left out but for leaves; where it stands, it must be what
//! inference gives. Comments run from `;` to the end of the line. The header
//! carries the major version of the form.

mod lexer;
mod parse;
mod print;

pub(crate) use lexer::quote;
pub(crate) use parse::parse_sample;
pub use parse::{ConstantSource, parse_any, parse_graph, parse_graph_using, parse_graph_with, parse_module};
pub use print::{constant_key, print_attr, print_graph, print_graph_with, print_module, print_program};

/// Version of the text form that this build writes and reads.
pub const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Fill, Samples};
    use crate::ops::Iota;
    use crate::{DType, Shape, TensorType};

    #[test]
    fn hand_written_text_parses_and_prints_in_normal_form() {
        let text = "rlx 1 ; comment\ngraph \"t\" {\n symbol S in [1, 8]\n %x = input {name = \"x\"} : f32[S, 4]\n\
                    %m = matmul %x, %x {transpose_a = false, transpose_b = true}\n output \"y\" = %m\n}\n";
        let graph = parse_graph(text).expect("the text parses");
        let printed = print_graph(&graph);
        assert_eq!(
            printed,
            "rlx 1\ngraph \"t\" {\n  symbol S in [1, 8]\n  %0 = input {name = \"x\"} : f32[S, 4]\n  \
             %1 = matmul %0, %0 {transpose_a = false, transpose_b = true} : f32[S, S]\n  output \"y\" = %1\n}\n"
        );
        assert_eq!(parse_graph(&printed).expect("the text parses"), graph);
        assert_eq!(
            parse_graph(&format!("\u{feff}{}", text.replace('\n', "\r\n"))).expect("the text parses"),
            graph
        );
    }

    #[test]
    fn errors_name_the_line_and_the_thing() {
        let cases = [
            ("", "line 1: text: expected `rlx 1`, found the end; is this a file in the RLX text form?"),
            ("rlx 2\ngraph \"t\" {}", "line 1: text: this build reads version 1, found version 2"),
            (
                "rlx 1\ngraph \"t\" {\n %0 = softmaxx %1\n}",
                "line 3: softmaxx: there is no op softmaxx; did you mean softmax?",
            ),
            (
                "rlx 1\ngraph \"t\" {\n %0 = softmax %1 {axis = 0}\n}",
                "line 3: %1: no such value before this line",
            ),
            (
                "rlx 1\ngraph \"t\" {\n %0 = input {name = \"x\"} : f32[4]\n %1 = softmax %0 {axis = 1}\n}",
                "line 4: %1 softmax: axis 1 is out of range for rank 1 (C2); operands f32[4]",
            ),
            (
                "rlx 1\ngraph \"t\" {\n %0 = input {name = \"x\"} : f32[4]\n %1 = softmax %0 {axis = 0} : f32[5]\n}",
                "line 4: softmax: declared type f32[5] differs from the inferred type f32[4]",
            ),
            (
                "rlx 1\ngraph \"t\" {\n %0 = input {name = \"x\"} : f32[4]\n %1 = softmax %0 {axis = 0, ax = 2}\n}",
                "line 4: softmax: there is no attribute ax",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_graph(text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn lines_of_samples_follow_the_first_and_name_what_is_wrong() {
        let read = |lines: &'static [&'static str]| Samples::Listed(lines).read(Iota::from_attrs);
        let lines = &["f32[2] {dtype = i32, shape = [2, 3], axis = 0}", "f16[0, 3] in [-2, 0.5) {axis = 1}"];
        let samples = read(lines).expect("both lines are samples");
        assert_eq!(samples[1].op, Iota { dtype: DType::I32, shape: Shape::from([2usize, 3]), axis: 1 });
        let f16 = TensorType::new(DType::F16, [0usize, 3]);
        assert_eq!(samples[1].operands, [(f16, Fill::Range(-2.0, 0.5))]);
        let why = |lines| read(lines).expect_err("the line is wrong").to_string();
        assert_eq!(why(&["f32[2] {axis = 0}"]), "f32[2] {axis = 0}: attribute dtype is missing");
        assert_eq!(why(&["f32[2], f33[2]"]), "line 1: f33: is not a dtype");
        assert_eq!(why(&["f32[2] in [1, 2]"]), "line 1: text: expected `)`, found `]`");
    }

    #[test]
    fn hostile_expressions_do_not_blow_up() {
        let product: Vec<String> = (0..64).map(|i| format!("(a{i} + b{i})")).collect();
        let text =
            format!("rlx 1\ngraph \"t\" {{\n %0 = input {{name = \"x\"}} : f32[{}]\n}}", product.join("*"));
        assert!(parse_graph(&text).unwrap_err().to_string().contains("more than 512 parts"));
        let deep = format!(
            "rlx 1\ngraph \"t\" {{\n %0 = input {{name = \"x\"}} : f32[{}1{}]\n}}",
            "(".repeat(5000),
            ")".repeat(5000)
        );
        assert!(parse_graph(&deep).unwrap_err().to_string().contains("nested too deeply"));
    }
}
