//! Training on the processor: every optimiser against a plain computation of its rule, runs that fall, runs that stop
//! and go on, settings that are refused.

use rlx_ir::interpret::{Tensors, evaluate};
use rlx_ir::ops::ReduceKind;
use rlx_ir::{DType, Graph, Literal};
use rlx_runtime::{Device, Session};
use rlx_train::{
    Checkpoint, Data, LearningRate, LossScaling, Optimizer, StepOptions, TrainConfig, TrainError, Trainer,
    TrainerOptions, training_step,
};
use rlx_weights::BytesWeightLoader;
use std::path::Path;

fn literal(dims: &[usize], values: &[f64]) -> Literal {
    Literal::floats(DType::F32, dims, values).expect("one value per element")
}

/// `loss = sum((w x - 1)^2) / 2 + sum(b^2) / 2`, with a frozen scale of 1.
fn quadratic() -> Graph {
    let mut g = Graph::new("quadratic");
    let x = g.input_f32("x", [2]);
    let (w, b, scale) = (g.param_f32("w", [2, 2]), g.param_f32("b", [2]), g.param_f32("scale", [0usize; 0]));
    let product = g.mul(w, x);
    let one = g.scalar(DType::F32, 1.0);
    let miss = g.sub(product, one);
    let square = g.mul(miss, miss);
    let left = g.reduce(square, ReduceKind::Sum, vec![0usize, 1], false);
    let square = g.mul(b, b);
    let right = g.reduce(square, ReduceKind::Sum, vec![0usize], false);
    let sum = g.add(left, right);
    let half = g.scalar(DType::F32, 0.5);
    let loss = g.mul(sum, half);
    let loss = g.mul(loss, scale);
    g.output("loss", loss);
    g.finish().expect("the graph is well formed")
}

const START: [f64; 4] = [0.5, -1.0, 2.0, 0.25];
const BIAS: [f64; 2] = [1.0, -2.0];

/// Runs `steps` steps in the interpreter; gives `w`, `b`, and all states.
fn stepped(options: &StepOptions, steps: usize, rate: f64) -> Tensors {
    let step = training_step(&quadratic(), "loss", &["w", "b"], options).expect("the step can be built");
    let mut tensors = Tensors::new();
    for (_, node) in step.iter().filter(|(_, node)| node.op.leaf_name().is_some()) {
        let dims = node.types[0].shape.as_static().expect("static");
        let zeros =
            Literal::from_bytes(node.types[0].dtype, &dims, &vec![0; 4 * dims.iter().product::<usize>()]);
        if let (Some(name), Ok(zeros)) = (node.op.leaf_name(), zeros) {
            tensors.insert(name.to_string(), zeros);
        }
    }
    tensors.insert("x".into(), literal(&[2], &[1.0, 2.0]));
    tensors.insert("w".into(), literal(&[2, 2], &START));
    tensors.insert("b".into(), literal(&[2], &BIAS));
    tensors.insert("scale".into(), Literal::scalar_f32(1.0));
    tensors.insert("learning_rate".into(), Literal::scalar_f32(rate as f32));
    if let Some(scaling) = options.loss_scaling {
        tensors.insert("optimizer:loss_scale".into(), Literal::scalar_f32(scaling.initial as f32));
    }
    let takes_update = step.iter().any(|(_, node)| node.op.leaf_name() == Some("update"));
    let mut outputs = vec![];
    for run in 0..steps {
        if takes_update {
            let update = u8::from((run + 1) % options.accumulate == 0);
            tensors
                .insert("update".into(), Literal::from_bytes(DType::Bool, &[], &[update]).expect("a bool"));
        }
        let found = evaluate(&step, &tensors).expect("the step runs");
        tensors.extend(found.states);
        outputs = found.outputs;
    }
    tensors.extend(outputs);
    tensors
}

/// Gradients of [`quadratic`] by `w` and `b`.
fn gradients(w: &[f64], b: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let x = [1.0, 2.0, 1.0, 2.0];
    (w.iter().zip(x).map(|(w, x)| (w * x - 1.0) * x).collect(), b.to_vec())
}

fn assert_near(found: &Literal, expected: &[f64], what: &str) {
    for (found, expected) in found.to_f64s().iter().zip(expected) {
        assert!(
            (found - expected).abs() <= 2e-6 * expected.abs().max(1.0),
            "{what}: {found} is not {expected}"
        );
    }
}

/// The next value from value, gradient, number of the step and memory.
type Rule = dyn Fn(f64, f64, f64, &mut [f64; 2]) -> f64;

/// Steps of `rule`, which changes one number from its gradient, the step and its own memory.
fn by_rule(steps: usize, rule: &Rule) -> (Vec<f64>, Vec<f64>) {
    let (mut w, mut b) = (START.to_vec(), BIAS.to_vec());
    let mut memory = [[0.0; 2]; 6];
    for step in 1..=steps {
        let (by_w, by_b) = gradients(&w, &b);
        let values = w.iter_mut().chain(&mut b);
        for ((value, gradient), memory) in values.zip(by_w.into_iter().chain(by_b)).zip(&mut memory) {
            *value = rule(*value, gradient, step as f64, memory);
        }
    }
    (w, b)
}

#[test]
fn optimisers_follow_their_rules() {
    let options = |optimizer| StepOptions { optimizer, ..StepOptions::default() };
    let check = |optimizer, rule: &Rule| {
        let found = stepped(&options(optimizer), 5, 0.1);
        let (w, b) = by_rule(5, rule);
        assert_near(&found["w"], &w, &format!("{optimizer:?}"));
        assert_near(&found["b"], &b, &format!("{optimizer:?}"));
        assert_eq!(found["optimizer:updates"].to_f64s(), [5.0]);
    };
    check(Optimizer::Sgd { momentum: 0.0, nesterov: false }, &|x, g, _, _| x - 0.1 * g);
    check(Optimizer::Sgd { momentum: 0.9, nesterov: false }, &|x, g, _, m| {
        m[0] = 0.9 * m[0] + g;
        x - 0.1 * m[0]
    });
    check(Optimizer::Sgd { momentum: 0.9, nesterov: true }, &|x, g, _, m| {
        m[0] = 0.9 * m[0] + g;
        x - 0.1 * (0.9 * m[0] + g)
    });
    check(Optimizer::default(), &|x, g, t, m| {
        *m = [0.9 * m[0] + 0.1 * g, 0.999 * m[1] + 0.001 * g * g];
        let (first, second) = (m[0] / (1.0 - 0.9f64.powf(t)), m[1] / (1.0 - 0.999f64.powf(t)));
        x - 0.1 * first / (second.sqrt() + 1e-8)
    });
    check(Optimizer::Lion { beta1: 0.9, beta2: 0.99 }, &|x, g, _, m| {
        let direction = 0.9 * m[0] + 0.1 * g;
        m[0] = 0.99 * m[0] + 0.01 * g;
        x - 0.1 * direction.signum()
    });
}

#[test]
fn decay_clipping_and_accumulation_change_the_step_as_they_say() {
    let sgd = Optimizer::Sgd { momentum: 0.0, nesterov: false };
    let decayed =
        stepped(&StepOptions { optimizer: sgd, weight_decay: 0.5, ..StepOptions::default() }, 1, 0.1);
    let (by_w, by_b) = gradients(&START, &BIAS);
    let w: Vec<f64> = START.iter().zip(&by_w).map(|(w, g)| w * 0.95 - 0.1 * g).collect();
    let b: Vec<f64> = BIAS.iter().zip(&by_b).map(|(b, g)| b - 0.1 * g).collect();
    assert_near(&decayed["w"], &w, "decay shrinks matrices");
    assert_near(&decayed["b"], &b, "decay leaves vectors");

    let norm = by_w.iter().chain(&by_b).map(|g| g * g).sum::<f64>().sqrt();
    let clipped =
        stepped(&StepOptions { optimizer: sgd, clip_norm: Some(0.5), ..StepOptions::default() }, 1, 0.1);
    let share = 0.5 / (norm + 1e-6);
    let w: Vec<f64> = START.iter().zip(&by_w).map(|(w, g)| w - 0.1 * share * g).collect();
    assert_near(&clipped["w"], &w, "clipped");
    assert_near(&clipped["gradient_norm"], &[norm], "the norm is that before clipping");

    // The same batch twice: the mean is that of one.
    let once = stepped(&StepOptions { optimizer: sgd, ..StepOptions::default() }, 2, 0.1);
    let halves = StepOptions { optimizer: sgd, accumulate: 2, ..StepOptions::default() };
    let twice = stepped(&halves, 4, 0.1);
    assert_near(&twice["w"], &once["w"].to_f64s(), "accumulated");
    assert_eq!(twice["optimizer:updates"].to_f64s(), [2.0]);
    let between = stepped(&halves, 3, 0.1);
    assert_eq!(between["optimizer:updates"].to_f64s(), [1.0], "a run without update changes no param");
}

#[test]
fn an_overflow_is_left_out_and_lowers_the_scale() {
    let sgd = Optimizer::Sgd { momentum: 0.0, nesterov: false };
    let scaling = LossScaling { initial: 3e38, growth_interval: 2 };
    let options = StepOptions { optimizer: sgd, loss_scaling: Some(scaling), ..StepOptions::default() };
    let first = stepped(&options, 1, 0.1);
    assert_eq!(first["skipped"].to_f64s(), [1.0]);
    assert_eq!(first["w"].to_f64s(), START);
    assert_eq!(first["optimizer:updates"].to_f64s(), [0.0]);
    assert!((first["optimizer:loss_scale"].to_f64s()[0] / 1.5e38 - 1.0).abs() < 1e-6);

    let scaled = LossScaling { initial: 1024.0, growth_interval: 2 };
    let options = StepOptions { loss_scaling: Some(scaled), ..options };
    let plain = stepped(&StepOptions { loss_scaling: None, ..options }, 3, 0.1);
    let found = stepped(&options, 3, 0.1);
    assert_near(&found["w"], &plain["w"].to_f64s(), "the scale is taken out again");
    assert_eq!(found["optimizer:loss_scale"].to_f64s(), [2048.0]);
}

#[test]
fn matrix_optimisers_lower_the_loss() {
    for optimizer in [
        Optimizer::Adafactor { exponent: 0.8, clip: 1.0 },
        Optimizer::Muon { momentum: 0.95, adamw_rate: 0.15 },
    ] {
        let options = StepOptions { optimizer, ..StepOptions::default() };
        let loss = |steps| stepped(&options, steps, 0.05)["loss"].to_f64s()[0];
        let (first, last) = (loss(1), loss(30));
        assert!(last < 0.5 * first, "{optimizer:?}: {first} -> {last}");
    }
}

/// `y = x w + b`, fitted to rows of an npz file.
fn line() -> Graph {
    let mut g = Graph::new("line");
    let (x, y) = (g.input_f32("x", [8, 3]), g.input_f32("y", [8, 1]));
    let (w, b) = (g.param_f32("w", [3, 1]), g.param_f32("b", [1]));
    let product = g.mm(x, w);
    let guess = g.add(product, b);
    let miss = g.sub(guess, y);
    let square = g.mul(miss, miss);
    let loss = g.reduce(square, ReduceKind::Mean, vec![0usize, 1], false);
    g.output("loss", loss);
    g.finish().expect("the graph is well formed")
}

fn write_rows(folder: &Path) {
    let mut generator = rlx_ir::sample::Generator::new(5);
    let x: Vec<f64> = (0..64 * 3).map(|_| generator.unit() - 0.5).collect();
    let y: Vec<f64> = x.chunks(3).map(|x| 2.0 * x[0] - x[1] + 0.5 * x[2] + 0.25).collect();
    let (x, y) = (literal(&[64, 3], &x), literal(&[64, 1], &y));
    let tensors = [("x", (&x).into()), ("y", (&y).into())];
    rlx_weights::output::write_file(folder.join("rows.npz"), |file, out| {
        rlx_weights::npz::write(file, out, &tensors, rlx_weights::npz::Compression::Stored)
    })
    .expect("a writable folder");
}

fn trainer(folder: &Path, steps: u64, seed: u64) -> Result<Trainer, TrainError> {
    let session = Session::new(Device::CPU)?;
    let weights =
        BytesWeightLoader::from_pairs([("w", literal(&[3, 1], &[0.0; 3])), ("b", literal(&[1], &[0.0]))])?;
    let data = Data::arrays(folder.join("rows.npz"), 8, (0.125, seed))?;
    let options = TrainerOptions {
        step: StepOptions::default(),
        steps,
        learning_rate: LearningRate::constant(0.05),
        seed,
        folder: Some(folder.join("out")),
        keep: 2,
    };
    Trainer::new(&session, (line(), "loss"), |_| true, &weights, (data, options))
}

#[test]
fn a_run_that_is_stopped_goes_on_with_the_same_bits() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_rows(folder.path());
    let losses = |trainer: &mut Trainer, count: usize| -> Vec<u32> {
        (0..count).map(|_| trainer.advance().expect("a step").loss.to_bits()).collect()
    };
    let mut whole = trainer(folder.path(), 60, 3).expect("the run starts");
    let expected = losses(&mut whole, 60);
    assert!(whole.is_done());
    let last = f32::from_bits(expected[59]);
    assert!(last < 0.05 * f32::from_bits(expected[0]), "the loss falls, to {last}");
    let evaluated = whole.evaluate(9).expect("the graph runs").expect("rows are kept for it");
    assert!(evaluated < 0.1, "{evaluated}");

    let mut first = trainer(folder.path(), 60, 3).expect("the run starts");
    let mut found = losses(&mut first, 20);
    first.save().expect("a writable folder").expect("it has a folder");
    // What comes after the checkpoint is lost with the program.
    losses(&mut first, 7);
    drop(first);
    std::fs::create_dir_all(folder.path().join("out/partial-27")).expect("a writable folder");
    let mut second = trainer(folder.path(), 60, 3).expect("the run goes on");
    assert_eq!(second.step(), 20);
    found.extend(losses(&mut second, 40));
    assert_eq!(found, expected);
    second.save().expect("a writable folder");

    let error = trainer(folder.path(), 60, 4).err().expect("another seed is another run").to_string();
    assert!(
        error.ends_with(
            "was made with seed 3, this run has 4; give another folder, or remove it to start anew"
        ),
        "{error}"
    );
    let all = Checkpoint::all(folder.path().join("out")).expect("a folder");
    assert_eq!(all.iter().map(|checkpoint| checkpoint.step).collect::<Vec<_>>(), [20, 60]);
}

#[test]
fn senseless_settings_are_refused() {
    let message = |options: StepOptions| {
        training_step(&quadratic(), "loss", &["w"], &options).expect_err("this must be refused").to_string()
    };
    let plain = StepOptions::default;
    for (options, expected) in [
        (
            StepOptions { weight_decay: -1.0, ..plain() },
            "weight_decay is -1; expected 0 or a positive number",
        ),
        (StepOptions { clip_norm: Some(0.0), ..plain() }, "clip_norm is 0; expected a positive number"),
        (
            StepOptions { optimizer: Optimizer::Sgd { momentum: 1.0, nesterov: false }, ..plain() },
            "optimizer.momentum is 1; expected a number from 0 to less than 1",
        ),
        (
            StepOptions { optimizer: Optimizer::Sgd { momentum: 0.0, nesterov: true }, ..plain() },
            "optimizer.nesterov is true; expected a momentum beside it",
        ),
    ] {
        assert_eq!(message(options), expected);
    }
    let unknown =
        training_step(&quadratic(), "loss", &["v"], &plain()).expect_err("there is no v").to_string();
    assert!(unknown.contains('v'), "{unknown}");
    let config = TrainConfig::parse("run.toml", "steps = 1\ncolour = 2\n").expect_err("there is no colour");
    assert!(
        config.to_string().starts_with("run.toml: ") && config.to_string().contains("colour"),
        "{config}"
    );
}
