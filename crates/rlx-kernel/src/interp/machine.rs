//! The lock-step machine: registers for every invocation of a workgroup, and a mask of those that are active.

use super::scalar;
use super::shadow::{Kind, Shadow, Who};
use super::{Fault, FaultKind, Launch};
use crate::ir::*;
use crate::text::statement_line;

/// Faults kept; more of the same add nothing.
const MAX_FAULTS: usize = 32;

pub struct Machine<'a> {
    kernel: &'a Kernel,
    launch: Launch<'a>,
    lanes: usize,
    /// Value-major registers: `registers[value * lanes + lane]`.
    registers: Vec<u64>,
    variables: Vec<Option<u64>>,
    arrays: Vec<Vec<u64>>,
    array_shadows: Vec<Shadow>,
    buffer_shadows: Vec<Shadow>,
    group: [u32; 3],
    linear_group: u32,
    array_epoch: u32,
    buffer_epoch: u32,
    faults: Vec<Fault>,
    exhausted: bool,
}

type Mask = [bool];

impl<'a> Machine<'a> {
    pub fn new(kernel: &'a Kernel, launch: Launch<'a>) -> Machine<'a> {
        let lanes = kernel.invocations() as usize;
        let arrays = kernel.arrays.iter().map(|array| array.length as usize);
        let elements = |(buffer, bytes): (&Buffer, &Vec<u8>)| bytes.len() / buffer.element.bytes() as usize;
        let buffer_shadows = kernel
            .buffers
            .iter()
            .zip(launch.buffers.iter())
            .map(|pair| Shadow::new(elements(pair)))
            .collect();
        Machine {
            kernel,
            lanes,
            registers: vec![0; kernel.types.len() * lanes],
            variables: vec![None; kernel.variables.len() * lanes],
            arrays: arrays.clone().map(|length| vec![0; length]).collect(),
            array_shadows: arrays.map(Shadow::new).collect(),
            buffer_shadows,
            launch,
            group: [0; 3],
            linear_group: 0,
            array_epoch: 1,
            buffer_epoch: 1,
            faults: Vec::new(),
            exhausted: false,
        }
    }

    pub fn run(mut self) -> Vec<Fault> {
        let [x, y, z] = self.launch.groups;
        let kernel = self.kernel;
        let mask = vec![true; self.lanes];
        for group in (0..z).flat_map(|k| (0..y).flat_map(move |j| (0..x).map(move |i| [i, j, k]))) {
            self.group = group;
            self.variables.fill(None);
            self.array_shadows.iter_mut().for_each(Shadow::clear);
            self.block(&kernel.body, &mask);
            self.linear_group += 1;
            self.array_epoch += 1;
            self.buffer_epoch += 1;
        }
        self.faults
    }

    fn block(&mut self, block: &'a Block, mask: &Mask) {
        for statement in block {
            let active = mask.iter().filter(|&&on| on).count() as u64;
            match self.launch.budget.checked_sub(active.max(1)) {
                Some(budget) => self.launch.budget = budget,
                None if self.exhausted => {}
                None => {
                    self.exhausted = true;
                    self.fault(FaultKind::Endless, statement, 0, 0);
                }
            }
            if self.exhausted {
                return;
            }
            self.statement(statement, mask);
        }
    }

    fn statement(&mut self, statement: &'a Statement, mask: &Mask) {
        match statement {
            Statement::If(condition, then, otherwise) => {
                for (block, wanted) in [(then, true), (otherwise, false)] {
                    let inner = self.narrow(mask, *condition, wanted);
                    if inner.contains(&true) {
                        self.block(block, &inner);
                    }
                }
            }
            Statement::For { counter, start, end, step, body } => {
                self.count(statement, mask, [*counter, *start, *end, *step], body);
            }
            Statement::While { header, condition, body } => {
                let mut active = mask.to_vec();
                while active.contains(&true) && !self.exhausted {
                    self.block(header, &active);
                    active = self.narrow(&active, *condition, true);
                    if active.contains(&true) {
                        self.block(body, &active);
                    }
                }
            }
            Statement::Barrier(fence) => {
                if let Some(lane) = mask.iter().position(|&on| !on) {
                    self.fault(FaultKind::BarrierDivergence, statement, lane, 0);
                }
                self.array_epoch += 1;
                self.buffer_epoch += u32::from(*fence == Fence::Everything);
            }
            _ => {
                for (lane, _) in mask.iter().enumerate().filter(|&(_, &on)| on) {
                    self.simple(statement, lane);
                }
            }
        }
    }

    fn count(&mut self, statement: &'a Statement, mask: &Mask, bounds: [Value; 4], body: &'a Block) {
        let [counter, start, end, step] = bounds;
        let mut active = mask.to_vec();
        if let Some(lane) = (0..self.lanes).find(|&lane| mask[lane] && self.read(step, lane) == 0) {
            self.fault(FaultKind::Endless, statement, lane, 0);
            return;
        }
        for lane in 0..self.lanes {
            self.write(counter, lane, self.read(start, lane));
        }
        while !self.exhausted {
            for (lane, on) in active.iter_mut().enumerate() {
                *on = *on && self.read(counter, lane) < self.read(end, lane);
            }
            if !active.contains(&true) {
                return;
            }
            self.block(body, &active);
            for lane in 0..self.lanes {
                // A counter that passes the largest word ends the loop, as `end` cannot be above it.
                self.write(counter, lane, self.read(counter, lane).saturating_add(self.read(step, lane)));
            }
        }
    }

    fn narrow(&self, mask: &Mask, condition: Value, wanted: bool) -> Vec<bool> {
        let test = |(lane, &on): (usize, &bool)| on && (self.read(condition, lane) != 0) == wanted;
        mask.iter().enumerate().map(test).collect()
    }

    /// Runs a statement without inner blocks for one invocation.
    fn simple(&mut self, statement: &'a Statement, lane: usize) {
        match *statement {
            Statement::Let(value, ref expr) => {
                let bits = self.expression(statement, expr, lane);
                self.write(value, lane, bits);
            }
            Statement::Set(id, value) => {
                self.variables[id.index() * self.lanes + lane] = Some(self.read(value, lane))
            }
            Statement::Store(place, index, value) => {
                if let Some(index) = self.access(statement, place, index, Kind::Write, lane) {
                    self.poke(place, index, self.read(value, lane));
                }
            }
            Statement::Atomic { result, op, place, index, value } => {
                let element = self.kernel.type_of(result).expect("verified");
                let found = self.access(statement, place, index, Kind::Atomic, lane);
                let old = found.map_or(0, |index| self.peek(place, index));
                if let Some(index) = found {
                    self.poke(place, index, scalar::atomic(op, element, old, self.read(value, lane)));
                }
                self.write(result, lane, old);
            }
            Statement::CompareExchange { result, place, index, expected, value } => {
                let found = self.access(statement, place, index, Kind::Atomic, lane);
                let old = found.map_or(0, |index| self.peek(place, index));
                if let Some(index) = found.filter(|_| old == self.read(expected, lane)) {
                    self.poke(place, index, self.read(value, lane));
                }
                self.write(result, lane, old);
            }
            _ => {}
        }
    }

    fn expression(&mut self, statement: &'a Statement, expr: &Expr, lane: usize) -> u64 {
        let kernel = self.kernel;
        let ty = |value: Value| kernel.type_of(value).expect("verified");
        match *expr {
            Expr::Constant(literal) => literal.bits,
            Expr::Parameter(id) => u64::from(self.launch.parameters[id.index()]),
            Expr::Builtin(builtin) => u64::from(self.builtin(builtin, lane)),
            Expr::Get(id) => match self.variables[id.index() * self.lanes + lane] {
                Some(bits) => bits,
                None => {
                    self.fault(FaultKind::Unwritten, statement, lane, 0);
                    0
                }
            },
            Expr::Load(place, index) => match self.access(statement, place, index, Kind::Read, lane) {
                Some(index) => self.peek(place, index),
                None => 0,
            },
            Expr::Unary(op, a) => scalar::unary(op, ty(a), self.read(a, lane)),
            Expr::Binary(op, a, b) => scalar::binary(op, ty(a), self.read(a, lane), self.read(b, lane)),
            Expr::Select(c, a, b) => self.read(if self.read(c, lane) != 0 { a } else { b }, lane),
            Expr::Cast(to, a) => scalar::cast(ty(a), to, self.read(a, lane)),
            Expr::Bitcast(_, a) => self.read(a, lane),
        }
    }

    fn builtin(&self, builtin: Builtin, lane: usize) -> u32 {
        let [width, height, _] = self.kernel.workgroup;
        let lane = lane as u32;
        let pick = |triple: [u32; 3], axis: u8| triple[usize::from(axis).min(2)];
        match builtin {
            Builtin::LocalId(axis) => {
                pick([lane % width, lane / width % height, lane / width / height], axis)
            }
            Builtin::GroupId(axis) => pick(self.group, axis),
            Builtin::GroupCount(axis) => pick(self.launch.groups, axis),
        }
    }

    /// Checks an access and records it; `None` when it is out of bounds.
    fn access(
        &mut self,
        statement: &'a Statement,
        place: Place,
        index: Value,
        kind: Kind,
        lane: usize,
    ) -> Option<usize> {
        let index = self.read(index, lane) as usize;
        let (length, shadow, epoch) = match place {
            Place::Buffer(id) => {
                let element = self.kernel.buffers[id.index()].element.bytes() as usize;
                let length = self.launch.buffers[id.index()].len() / element;
                (length, &mut self.buffer_shadows[id.index()], self.buffer_epoch)
            }
            Place::Array(id) => {
                (self.arrays[id.index()].len(), &mut self.array_shadows[id.index()], self.array_epoch)
            }
        };
        if index >= length {
            self.fault(FaultKind::OutOfBounds, statement, lane, index as u64);
            return None;
        }
        let unwritten = matches!(place, Place::Array(_)) && kind != Kind::Write && !shadow.is_written(index);
        let race = shadow.access(index, kind, Who { group: self.linear_group, lane: lane as u32, epoch });
        if unwritten {
            self.fault(FaultKind::Unwritten, statement, lane, index as u64);
        }
        if race {
            self.fault(FaultKind::Race, statement, lane, index as u64);
        }
        Some(index)
    }

    fn peek(&self, place: Place, index: usize) -> u64 {
        match place {
            Place::Array(id) => self.arrays[id.index()][index],
            Place::Buffer(id) => {
                let size = self.kernel.buffers[id.index()].element.bytes() as usize;
                let bytes = &self.launch.buffers[id.index()][index * size..][..size];
                bytes.iter().rev().fold(0, |bits, &byte| bits << 8 | u64::from(byte))
            }
        }
    }

    fn poke(&mut self, place: Place, index: usize, bits: u64) {
        match place {
            Place::Array(id) => self.arrays[id.index()][index] = bits,
            Place::Buffer(id) => {
                let size = self.kernel.buffers[id.index()].element.bytes() as usize;
                let bytes = &mut self.launch.buffers[id.index()][index * size..][..size];
                bytes.copy_from_slice(&bits.to_le_bytes()[..size]);
            }
        }
    }

    fn read(&self, value: Value, lane: usize) -> u64 {
        self.registers[value.index() * self.lanes + lane]
    }

    fn write(&mut self, value: Value, lane: usize, bits: u64) {
        self.registers[value.index() * self.lanes + lane] = bits;
    }

    fn fault(&mut self, kind: FaultKind, statement: &Statement, lane: usize, index: u64) {
        if self.faults.len() >= MAX_FAULTS {
            return;
        }
        let statement = statement_line(self.kernel, statement);
        if !self.faults.iter().any(|fault| fault.kind == kind && fault.statement == statement) {
            self.faults.push(Fault { kind, statement, group: self.group, lane: lane as u32, index });
        }
    }
}
