//! Every variant of `KernelError`, with the message that a user sees.

#[macro_use]
#[path = "../../rlx-testkit/shared/error_cases.rs"]
mod shared;

use rlx_kernel::KernelError;

error_cases! { KernelError in "../src/error.rs":
    a_kernel_that_breaks_rules: Malformed,
        KernelError::Malformed { kernel: "add".into(), problems: vec!["one".into(), "two".into()] }
        => "kernel `add` is not well formed:\n  one\n  two";
    a_type_that_the_target_lacks: Unsupported,
        KernelError::Unsupported {
            kernel: "add".into(),
            what: "f64".into(),
            target: "WGSL".into(),
            hint: "cast to f32".into(),
        } => "kernel `add` needs f64, which WGSL does not have; cast to f32";
    a_launch_that_does_not_fit: Launch,
        KernelError::Launch { kernel: "add".into(), what: "number of buffers".into(), found: 1, expected: 3 }
        => "kernel `add`: number of buffers: found 1, expected 3";
}
