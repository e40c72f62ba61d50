//! An allocator that refuses what no test case deserves, to see what hostile input asks for.
//!
//! A program of tests makes it its global allocator; it should have one test, since what another one allocates
//! meanwhile would be counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The system's allocator with a largest size of one allocation.
#[derive(Debug)]
pub struct Limited {
    most: usize,
    case: AtomicU64,
    refused: AtomicUsize,
}

impl Limited {
    /// Allows `most` bytes at once.
    pub const fn new(most: usize) -> Limited {
        Limited { most, case: AtomicU64::new(0), refused: AtomicUsize::new(0) }
    }

    /// Begins a case, which a message about a refused allocation names.
    pub fn begin(&self, case: u64) {
        self.case.store(case, Ordering::Relaxed);
        self.refused.store(0, Ordering::Relaxed);
    }

    /// The largest size that was refused since the case began; 0 where none was.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    fn allows(&self, size: usize) -> bool {
        if size > self.most {
            self.refused.fetch_max(size, Ordering::Relaxed);
            // What cannot be refused gracefully ends the process: the number of the case must be seen before.
            let case = self.case.load(Ordering::Relaxed);
            let _ = writeln!(std::io::stderr(), "case {case} asks for {size} bytes");
        }
        size <= self.most
    }
}

// SAFETY: every call goes to the system's allocator or gives the null pointer, which means "no memory".
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the system's.
        if self.allows(layout.size()) { unsafe { System.alloc(layout) } } else { std::ptr::null_mut() }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the system's.
        if self.allows(layout.size()) { unsafe { System.alloc_zeroed(layout) } } else { std::ptr::null_mut() }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if self.allows(size) {
            // SAFETY: the caller's promise is the system's, and the pointer came from it.
            unsafe { System.realloc(pointer, layout, size) }
        } else {
            std::ptr::null_mut()
        }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}
