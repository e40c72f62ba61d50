//! Storage-only dtypes to and from dtypes that kernels compute in: whole blocks or bytes, on all threads.

use super::view::BoundView;
use super::work::{Call, Work};
use crate::kernels::{KernelError, cast_bytes, cast_bytes_mut};
use rlx_ir::block_format::BlockFormat;
use rlx_ir::number::{Number, decode, encode};
use rlx_ir::{DType, ops::DecodeStorage};

/// Elements that are worth handing to another thread.
const PIECE: usize = 16 << 10;

/// A conversion between a storage-only dtype and that of its elements.
pub struct StorageStep {
    stored: DType,
    encodes: bool,
    format: Option<&'static BlockFormat>,
    /// The numbers of the codes of f4e2m1.
    table: [f32; 16],
}

impl StorageStep {
    /// The conversion of a dense operand to a dense result.
    pub fn new(operand: &BoundView, output: &BoundView) -> Option<StorageStep> {
        let encodes = output.dtype.is_storage_only();
        let stored = if encodes { output.dtype } else { operand.dtype };
        let number = |code: usize| decode(DType::F4E2M1, &[code as u8]).as_f64().unwrap_or(f64::NAN) as f32;
        let table = std::array::from_fn(number);
        let step = StorageStep { stored, encodes, format: BlockFormat::of(stored), table };
        operand.is_dense().then_some(step)
    }

    /// Elements of `bytes` that are smaller than a byte, by `element` of the bits of one.
    fn split<T>(&self, bytes: &[u8], out: &mut [T], element: impl Fn(u8) -> T) {
        let (bits, (per_byte, _)) = (self.stored.block_bits(), self.stored.storage_unit());
        let mask = u8::MAX >> (8 - bits);
        for (byte, out) in bytes.iter().zip(out.chunks_mut(per_byte)) {
            for (index, out) in out.iter_mut().enumerate() {
                *out = element((byte >> (bits * index)) & mask);
            }
        }
    }

    /// The reverse of [`split`](Self::split).
    fn join<T: Copy>(&self, elements: &[T], out: &mut [u8], bits_of: impl Fn(T) -> u8) {
        let (bits, (per_byte, _)) = (self.stored.block_bits(), self.stored.storage_unit());
        let mask = u8::MAX >> (8 - bits);
        for (out, elements) in out.iter_mut().zip(elements.chunks(per_byte)) {
            let byte = |byte, (index, &element)| byte | ((bits_of(element) & mask) << (bits * index));
            *out = elements.iter().enumerate().fold(0, byte);
        }
    }

    fn decode(&self, call: Call<'_, '_>) -> Result<(), KernelError> {
        let (elements, bytes) = self.stored.storage_unit();
        let (units, read, pool) = (PIECE / elements, call.reads[0], call.context.pool());
        let part =
            |piece: usize, len: usize| &read[piece * units * bytes..][..len.div_ceil(elements) * bytes];
        if DecodeStorage::result(self.stored) != DType::F32 {
            let shift = 8 - self.stored.block_bits();
            let signed = self.stored.is_signed_int();
            pool.run_pieces(&mut *call.writes[0], units * elements, |piece, out: &mut [u8]| {
                let element = |code: u8| if signed { (((code << shift) as i8) >> shift) as u8 } else { code };
                self.split(part(piece, out.len()), out, element);
            });
            return Ok(());
        }
        let out = cast_bytes_mut::<f32>("result", call.writes[0])?;
        pool.run_pieces(out, units * elements, |piece, out| match self.format {
            Some(format) => format.decode(part(piece, out.len()), out),
            None => self.split(part(piece, out.len()), out, |code| self.table[usize::from(code)]),
        });
        Ok(())
    }

    fn encode(&self, call: Call<'_, '_>) -> Result<(), KernelError> {
        let (elements, bytes) = self.stored.storage_unit();
        let (units, read, pool) = (PIECE / elements, call.reads[0], call.context.pool());
        let range = |piece: usize, len: usize, all: usize| {
            let start = piece * units * elements;
            start..(start + len / bytes * elements).min(all)
        };
        if DecodeStorage::result(self.stored) != DType::F32 {
            pool.run_pieces(&mut *call.writes[0], units * bytes, |piece, out: &mut [u8]| {
                self.join(&read[range(piece, out.len(), read.len())], out, |element| element);
            });
            return Ok(());
        }
        let numbers = cast_bytes::<f32>("operand", read)?;
        pool.run_pieces(&mut *call.writes[0], units * bytes, |piece, out: &mut [u8]| {
            let numbers = &numbers[range(piece, out.len(), numbers.len())];
            match self.format {
                Some(format) => format.encode(numbers, out),
                None => self.join(numbers, out, |number| {
                    let mut code = [0];
                    encode(DType::F4E2M1, Number::Float(number.into()), &mut code);
                    code[0]
                }),
            }
        });
        Ok(())
    }
}

impl Work for StorageStep {
    fn name(&self) -> &'static str {
        if self.encodes { "encode" } else { "decode" }
    }

    fn run(&self, call: Call<'_, '_>) -> Result<(), String> {
        let done = if self.encodes { self.encode(call) } else { self.decode(call) };
        done.map_err(|error| error.to_string())
    }
}
