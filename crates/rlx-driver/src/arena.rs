//! Arenas: one block of memory that holds every planned buffer of an executable.

use crate::error::DriverError;
use crate::host::convert;
use rlx_ir::DType;
use rlx_ir::TensorRef;
use rlx_ir::lir::{ArenaLayout, BufferId};

/// A planned arena on some device. Slots are named by buffer; a buffer without
/// a slot is `None`, not a magic number.
pub trait DeviceArena {
    /// Distance of a buffer from the start of the arena, in bytes.
    fn byte_offset(&self, buffer: BufferId) -> Option<usize>;
    /// Size of a buffer's slot, in bytes.
    fn byte_size(&self, buffer: BufferId) -> Option<usize>;
    /// Bytes of the whole arena.
    fn size_bytes(&self) -> usize;
    /// Has the buffer a slot?
    fn has_buffer(&self, buffer: BufferId) -> bool {
        self.byte_offset(buffer).is_some()
    }
    /// Fills a slot of elements of `dtype` from a host tensor, converting.
    ///
    /// # Errors
    /// A buffer without a slot, or a tensor that is not exactly as large.
    fn write(&mut self, buffer: BufferId, dtype: DType, tensor: TensorRef<'_>) -> Result<(), DriverError>;
}

/// Bytes of one block of a host arena; its alignment is the largest that
/// kernels ask for without further care.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Block([u8; 64]);

/// Zeroed host memory, aligned to 64 bytes.
#[derive(Clone, Default)]
pub struct AlignedBytes {
    blocks: Vec<Block>,
    len: usize,
}

impl AlignedBytes {
    /// `len` zero bytes; untouched pages cost nothing.
    ///
    /// # Errors
    /// Memory that cannot be had.
    pub fn zeroed(len: usize, what: &'static str) -> Result<AlignedBytes, DriverError> {
        let blocks = bytemuck::allocation::try_zeroed_slice_box::<Block>(len.div_ceil(64))
            .map_err(|()| DriverError::OutOfMemory { what, bytes: len })?;
        Ok(AlignedBytes { blocks: blocks.into_vec(), len })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.blocks)[..self.len]
    }

    /// The bytes, to write.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.blocks)[..self.len]
    }
}

impl AsRef<[u8]> for AlignedBytes {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

/// An arena in host memory.
#[derive(Clone, Default)]
pub struct HostArena {
    layout: ArenaLayout,
    bytes: AlignedBytes,
}

impl HostArena {
    /// Zeroed memory for `layout`.
    ///
    /// # Errors
    /// Memory that cannot be had.
    pub fn new(layout: ArenaLayout) -> Result<HostArena, DriverError> {
        let bytes = AlignedBytes::zeroed(layout.size, "the arena")?;
        Ok(HostArena { layout, bytes })
    }

    /// Moves to another layout; memory grows only when it must, and contents do not survive.
    ///
    /// # Errors
    /// Memory that cannot be had.
    pub fn rebind(&mut self, layout: ArenaLayout) -> Result<(), DriverError> {
        if layout.size > self.bytes.len {
            self.bytes = AlignedBytes::default();
            self.bytes = AlignedBytes::zeroed(layout.size, "the arena")?;
        }
        self.layout = layout;
        Ok(())
    }

    /// The layout in force.
    pub fn layout(&self) -> &ArenaLayout {
        &self.layout
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// All bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.as_mut_slice()
    }

    fn place(&self, buffer: BufferId) -> Option<(usize, usize)> {
        self.layout.places.get(buffer.0 as usize).copied().flatten()
    }

    /// The bytes of a slot, to write.
    ///
    /// # Errors
    /// A buffer without a slot.
    pub fn slot_mut(&mut self, buffer: BufferId) -> Result<&mut [u8], DriverError> {
        let (offset, size) = self.place(buffer).ok_or_else(|| DriverError::NoSuchName {
            what: "arena slot",
            name: format!("b{}", buffer.0),
            known: vec![],
        })?;
        Ok(&mut self.bytes_mut()[offset..offset + size])
    }
}

impl DeviceArena for HostArena {
    fn byte_offset(&self, buffer: BufferId) -> Option<usize> {
        self.place(buffer).map(|(offset, _)| offset)
    }
    fn byte_size(&self, buffer: BufferId) -> Option<usize> {
        self.place(buffer).map(|(_, size)| size)
    }
    fn size_bytes(&self) -> usize {
        self.layout.size
    }
    fn write(&mut self, buffer: BufferId, dtype: DType, tensor: TensorRef<'_>) -> Result<(), DriverError> {
        convert(tensor.dtype, tensor.bytes, dtype, self.slot_mut(buffer)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arena() -> HostArena {
        HostArena::new(ArenaLayout { places: vec![Some((0, 8)), None, Some((64, 4))], size: 128 })
            .expect("the extents agree")
    }

    #[test]
    fn slots_are_typed_and_exact() {
        let mut arena = arena();
        let values = TensorRef::f32(&[2], &[1.5, -2.0]).expect("the bytes fit the shape");
        let one = TensorRef::f32(&[1], &[1.0]).expect("the bytes fit the shape");
        arena.write(BufferId(0), DType::F32, values).expect("the extents agree");
        arena.write(BufferId(2), DType::F16, values).expect("the extents agree");
        assert_eq!(arena.bytes()[64..68], [0x00, 0x3e, 0x00, 0xc0]);
        assert_eq!(arena.bytes()[..4], 1.5f32.to_le_bytes());
        assert!(arena.write(BufferId(2), DType::F32, values).is_err());
        assert!(arena.write(BufferId(1), DType::F32, one).is_err());
        assert!(!arena.has_buffer(BufferId(1)) && arena.has_buffer(BufferId(2)));
        assert_eq!(arena.bytes().as_ptr() as usize % 64, 0);
    }
}
