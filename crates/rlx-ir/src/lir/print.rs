//! The text of a module, for dumps, reports and filetests. Not stable.

use super::{EpilogueInput, LirModule, Operand, Region, Repeat, Step, View};
use crate::layout::Layout;
use crate::text::{print_attr, print_program};
use std::fmt::Write;

/// The text of `module`, prepare stages last.
pub fn print_lir(module: &LirModule) -> String {
    let mut out = format!("lir {:?}\n", module.name);
    for (index, buffer) in module.buffers.iter().enumerate() {
        let _ = write!(out, "  b{index} = {} {:?} : {}", buffer.kind.name(), buffer.name, buffer.ty());
        if let Some(slot) = module.plan.slots.iter().find(|slot| slot.buffer.0 as usize == index) {
            let _ = write!(out, " live {}..{}", slot.first, slot.last);
        }
        out.push('\n');
    }
    for alias in &module.plan.aliases {
        let _ = writeln!(out, "  {} = alias b{} + {} bytes", alias.name, alias.root.0, alias.byte_offset);
    }
    print_steps(&mut out, &module.steps, 1);
    for entry in &module.io.outputs {
        let _ = writeln!(out, "  return {:?} = b{}", entry.name, entry.buffer.0);
    }
    if let Some(faults) = &module.io.faults {
        let _ = writeln!(out, "  check {:?} = b{}", faults.entry.name, faults.entry.buffer.0);
    }
    for stage in &module.prepare {
        let _ = write!(out, "prepare {}", print_lir(stage));
    }
    out
}

fn print_steps(out: &mut String, steps: &[Step], depth: usize) {
    let indent = "  ".repeat(depth);
    for step in steps {
        out.push_str(&indent);
        match step {
            Step::Kernel(step) => {
                let outputs: Vec<_> = step.outputs.iter().map(view).collect();
                let _ = write!(out, "{} =", outputs.join(", "));
                if let Some(anchor) = &step.anchor {
                    let operands: Vec<_> = anchor.operands.iter().map(operand).collect();
                    let attrs: Vec<_> = anchor
                        .op
                        .attrs()
                        .iter()
                        .map(|(name, attr)| format!("{name} = {}", print_attr(attr)))
                        .collect();
                    let _ = write!(
                        out,
                        " {}({}) {{{}}}",
                        anchor.op.def().name,
                        operands.join(", "),
                        attrs.join(", ")
                    );
                }
                if let Some(epilogue) = &step.epilogue {
                    let inputs: Vec<_> = epilogue
                        .inputs
                        .iter()
                        .map(|input| match input {
                            EpilogueInput::Anchor => "anchor".to_string(),
                            EpilogueInput::View(other) => view(other),
                        })
                        .collect();
                    let _ = write!(out, " {}({})", print_program(&epilogue.program), inputs.join(", "));
                }
                let _ = writeln!(out, "  ; {}", step.origin);
            }
            Step::Pack(pack) => {
                let _ = writeln!(out, "b{} = pack {:?} {}", pack.target.0, pack.key, view(&pack.source));
            }
            Step::Branch(branch) => {
                let _ = writeln!(out, "if {}:  ; {}", view(&branch.predicate), branch.origin);
                print_steps(out, &branch.then, depth + 1);
                let _ = writeln!(out, "{indent}else:");
                print_steps(out, &branch.otherwise, depth + 1);
            }
            Step::Loop(looped) => {
                match &looped.repeat {
                    Repeat::Times { counter, count } => {
                        let _ = writeln!(out, "for {counter} in 0..{count}:  ; {}", looped.origin);
                    }
                    Repeat::While { condition, predicate, limit } => {
                        let _ = writeln!(out, "condition:  ; {}", looped.origin);
                        print_steps(out, condition, depth + 1);
                        let limit = limit.as_ref().map(|limit| format!(" at most {limit} times"));
                        let _ =
                            writeln!(out, "{indent}while {}{}:", view(predicate), limit.unwrap_or_default());
                    }
                }
                print_steps(out, &looped.body, depth + 1);
            }
        }
    }
}

fn operand(operand: &Operand) -> String {
    match operand {
        Operand::View(other) => view(other),
        Operand::Region(Region { program, inputs, shape }) => {
            let inputs: Vec<_> = inputs.iter().map(view).collect();
            format!("{}({}){shape}", print_program(program), inputs.join(", "))
        }
        Operand::Packed { buffer, ty, key } => format!("b{} packed {key:?} from {ty}", buffer.0),
    }
}

/// `b3[2, 4]`, with offset and strides where the view is not dense from the start.
fn view(view: &View) -> String {
    let layout = &view.layout;
    let mut out = format!("b{}{}", view.buffer.0, layout.shape);
    if *layout != Layout::dense(&layout.shape) {
        let strides: Vec<_> = layout.strides.iter().map(ToString::to_string).collect();
        let _ = write!(out, "@{} by [{}]", layout.offset, strides.join(", "));
    }
    out
}
