//! WGSL, as naga reads it: group 0 holds the parameters (uniform, binding 0) and the buffers (binding 1 on).
//!
//! 64-bit integers are naga's extension. NaN and infinity are made from bits at run time, since a WGSL compiler
//! rejects them in constant expressions. Compare and exchange is the weak form: it may fail with the expected value on
//! a Metal device, so a loop around it must test by what it finds next, not by this result alone.

use super::{Dialect, Usage, identifier};
use crate::ir::*;
use std::fmt::Write;

/// The language.
#[derive(Clone, Copy, Debug)]
pub struct Wgsl;

impl Dialect for Wgsl {
    fn name(&self) -> &'static str {
        "WGSL"
    }

    fn head(&self, kernel: &Kernel, usage: &Usage) -> String {
        let mut out = String::new();
        let element = |ty: Scalar, atomic: bool| {
            let ty = self.scalar(ty).unwrap_or("u32");
            if atomic { format!("atomic<{ty}>") } else { ty.to_string() }
        };
        if !kernel.parameters.is_empty() {
            out.push_str("struct Parameters {\n");
            for parameter in &kernel.parameters {
                let ty = element(parameter.ty, false);
                let _ = writeln!(out, "  {}: {ty},", identifier(&parameter.name));
            }
            out.push_str("}\n@group(0) @binding(0) var<uniform> parameters: Parameters;\n");
        }
        for (index, buffer) in kernel.buffers.iter().enumerate() {
            let access = if buffer.access == Access::Read { "read" } else { "read_write" };
            let (name, ty) = (identifier(&buffer.name), element(buffer.element, usage.atomic_buffers[index]));
            let binding = index + 1;
            let _ =
                writeln!(out, "@group(0) @binding({binding}) var<storage, {access}> {name}: array<{ty}>;");
        }
        for (index, array) in kernel.arrays.iter().enumerate() {
            let (name, ty) = (identifier(&array.name), element(array.element, usage.atomic_arrays[index]));
            let _ = writeln!(out, "var<workgroup> {name}: array<{ty}, {}>;", array.length);
        }
        let [x, y, z] = kernel.workgroup;
        let _ = writeln!(out, "var<private> no_bits: u32 = 0u;\n@compute @workgroup_size({x}, {y}, {z})");
        out.push_str("fn main(@builtin(local_invocation_id) local_id: vec3<u32>, ");
        out.push_str("@builtin(workgroup_id) group_id: vec3<u32>, ");
        out.push_str("@builtin(num_workgroups) group_count: vec3<u32>) {\n");
        out
    }

    fn scalar(&self, ty: Scalar) -> Option<&'static str> {
        match ty {
            Scalar::Bool | Scalar::I32 | Scalar::U32 | Scalar::F32 | Scalar::I64 | Scalar::U64 => {
                Some(ty.name())
            }
            _ => None,
        }
    }

    fn literal(&self, literal: Literal) -> String {
        let bits = literal.bits;
        match literal.ty {
            Scalar::Bool => (bits != 0).to_string(),
            Scalar::I32 if bits == 1 << 31 => "i32(-2147483648)".into(),
            Scalar::I32 => format!("{}i", bits as u32 as i32),
            Scalar::U32 => format!("{}u", bits as u32),
            Scalar::I64 if bits == 1 << 63 => format!("({}li - 1li)", i64::MIN + 1),
            Scalar::I64 => format!("{}li", bits as i64),
            Scalar::U64 => format!("{bits}lu"),
            _ if f32::from_bits(bits as u32).is_finite() => format!("{:?}f", f32::from_bits(bits as u32)),
            _ => format!("bitcast<f32>(no_bits | {:#x}u)", bits as u32),
        }
    }

    fn define(&self, _: &str, name: &str, expression: &str) -> String {
        format!("let {name} = {expression};")
    }

    fn variable(&self, ty: &str, name: &str) -> String {
        format!("var {name}: {ty};")
    }

    fn count(&self, name: &str, start: &str, end: &str, step: &str) -> String {
        format!("for (var {name} = {start}; {name} < {end}; {name} += {step}) {{")
    }

    fn parameter(&self, parameter: &Parameter) -> String {
        format!("parameters.{}", identifier(&parameter.name))
    }

    fn builtin(&self, builtin: Builtin) -> String {
        let (name, axis) = match builtin {
            Builtin::LocalId(axis) => ("local_id", axis),
            Builtin::GroupId(axis) => ("group_id", axis),
            Builtin::GroupCount(axis) => ("group_count", axis),
        };
        format!("{name}.{}", ["x", "y", "z"][usize::from(axis).min(2)])
    }

    fn unary(&self, op: UnaryOp, ty: Scalar, a: &str) -> Option<String> {
        let name = match op {
            UnaryOp::Not if ty == Scalar::Bool => "!",
            UnaryOp::Not => "~",
            UnaryOp::Neg if ty.class() != Class::Unsigned => "-",
            UnaryOp::Abs if ty == Scalar::F32 => "abs",
            UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Trunc | UnaryOp::Round | UnaryOp::Sqrt => op.name(),
            _ => return None,
        };
        Some(format!("{name}({a})"))
    }

    fn binary(&self, op: BinaryOp, ty: Scalar, a: &str, b: &str) -> Option<String> {
        let is_bool = ty == Scalar::Bool;
        let sign = match op {
            BinaryOp::Min | BinaryOp::Max if !is_bool => return Some(format!("{}({a}, {b})", op.name())),
            BinaryOp::Shl => return Some(format!("({a} << u32({b}))")),
            BinaryOp::Shr => return Some(format!("({a} >> u32({b}))")),
            BinaryOp::Xor if is_bool => "!=",
            BinaryOp::And => "&",
            BinaryOp::Or => "|",
            BinaryOp::Xor => "^",
            BinaryOp::Eq => "==",
            BinaryOp::Ne => "!=",
            _ if is_bool => return None,
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Rem if ty.is_integer() => "%",
            BinaryOp::Lt => "<",
            BinaryOp::Le => "<=",
            BinaryOp::Gt => ">",
            BinaryOp::Ge => ">=",
            _ => return None,
        };
        Some(format!("({a} {sign} {b})"))
    }

    fn select(&self, condition: &str, then: &str, otherwise: &str) -> String {
        format!("select({otherwise}, {then}, {condition})")
    }

    fn cast(&self, to: &str, a: &str) -> String {
        format!("{to}({a})")
    }

    fn bitcast(&self, from: Scalar, to: Scalar, to_name: &str, a: &str) -> String {
        // Between integers a conversion keeps the bits, and naga knows it for every width.
        match from.is_integer() && to.is_integer() {
            true => format!("{to_name}({a})"),
            false => format!("bitcast<{to_name}>({a})"),
        }
    }

    fn atomic_load(&self, element: &str) -> String {
        format!("atomicLoad(&{element})")
    }

    fn atomic_store(&self, element: &str, value: &str) -> String {
        format!("atomicStore(&{element}, {value});")
    }

    fn atomic(&self, op: AtomicOp, element: &str, value: &str) -> String {
        let name = match op {
            AtomicOp::Load => return self.atomic_load(element),
            AtomicOp::Add => "Add",
            AtomicOp::Min => "Min",
            AtomicOp::Max => "Max",
            AtomicOp::And => "And",
            AtomicOp::Or => "Or",
            AtomicOp::Xor => "Xor",
            AtomicOp::Exchange => "Exchange",
        };
        format!("atomic{name}(&{element}, {value})")
    }

    fn compare_exchange(&self, element: &str, expected: &str, value: &str) -> String {
        format!("atomicCompareExchangeWeak(&{element}, {expected}, {value}).old_value")
    }

    fn barrier(&self, fence: Fence) -> &'static str {
        match fence {
            Fence::Arrays => "workgroupBarrier();",
            Fence::Everything => "storageBarrier(); workgroupBarrier();",
        }
    }
}
