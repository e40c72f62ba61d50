//! A thread pool that costs microseconds.
//!
//! A job is a number of tasks and a function of the task's index. The calling thread works too:
//! it posts the job in a slot, takes tasks from the job's atomic counter along with the workers,
//! and returns when the last task is done. Workers spin for some microseconds after their last
//! task and then sleep, so an idle pool costs nothing.
//!
//! Invariants:
//! - A job lives on its caller's stack; a worker touches it only between entering and leaving its
//!   slot, and the caller returns only after the slot is closed and empty.
//! - A call from inside a task runs inline, so nesting cannot deadlock.
//! - A panic in a task ends the job early and resumes in the caller.
//!
//! The pool fixes no order of tasks: results must not depend on it.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::io;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Jobs that can be in flight at once; a caller who finds no free slot works alone.
const SLOTS: usize = 8;
/// How long a worker looks for work before it sleeps.
const SPIN: Duration = Duration::from_micros(30);

/// Slot state: nobody uses it.
const FREE: usize = 0;
/// Slot state bit: a caller owns the slot.
const OWNED: usize = 1 << (usize::BITS - 1);
/// Slot state bit: workers may enter. The low bits count the workers inside.
const OPEN: usize = 1 << (usize::BITS - 2);

thread_local! {
    /// Whether this thread is running a task.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// A fixed set of worker threads, shared by reference.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    slots: [Slot; SLOTS],
    /// Counts posted jobs, so that a worker about to sleep sees that it missed one.
    posted: AtomicUsize,
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
    stop: AtomicBool,
}

struct Slot {
    state: AtomicUsize,
    next: AtomicUsize,
    tasks: AtomicUsize,
    job: UnsafeCell<Option<Job>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    done: Mutex<()>,
    left: Condvar,
}

/// The caller's task function with its lifetime erased.
#[derive(Clone, Copy)]
struct Job(*const (dyn Fn(usize, usize) + Sync));

// SAFETY: the function behind the pointer is `Sync`.
unsafe impl Send for Job {}
// SAFETY: `job` is written only by the owner of a closed slot and read only by workers that
// entered the open slot; the state's release and acquire order the two.
unsafe impl Sync for Slot {}

impl Pool {
    /// A pool in which `threads` threads work, the caller's included.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn new(threads: usize) -> io::Result<Pool> {
        let shared = Arc::new(Shared {
            slots: std::array::from_fn(|_| Slot::new()),
            posted: AtomicUsize::new(0),
            sleepers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let mut pool = Pool { shared, workers: Vec::new() };
        for worker in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let name = format!("rlx-cpu-{worker}");
            pool.workers.push(Builder::new().name(name).spawn(move || shared.work(worker))?);
        }
        Ok(pool)
    }

    /// A pool with no worker: every job runs inline.
    pub fn inline() -> Pool {
        Pool::new(1).expect("a pool of one starts no thread")
    }

    /// Number of threads that work on a job, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task` with each index below `tasks`, in any order, on any of the threads.
    pub fn run(&self, tasks: usize, task: impl Fn(usize) + Sync) {
        self.run_with_slot(tasks, |_, index| task(index));
    }

    /// As [`run`](Self::run), but `task` gets first a number below [`threads`](Self::threads)
    /// that no other task of this call holds at the same time: the place of its scratch memory.
    pub fn run_with_slot(&self, tasks: usize, task: impl Fn(usize, usize) + Sync) {
        if tasks <= 1 || self.workers.is_empty() || INSIDE.get() {
            (0..tasks).for_each(|index| task(0, index));
            return;
        }
        let Some(slot) = self.shared.slots.iter().find(|slot| slot.claim()) else {
            (0..tasks).for_each(|index| task(0, index));
            return;
        };
        slot.post(tasks, &task);
        self.shared.wake(tasks - 1);
        slot.take_tasks(0, &task);
        if let Some(payload) = slot.finish() {
            resume_unwind(payload);
        }
    }

    /// As [`run_with_slot`](Self::run_with_slot), for tasks that may fail; all of them run.
    ///
    /// # Errors
    /// The first failure in time.
    pub fn try_with_slot<E: Send>(
        &self,
        tasks: usize,
        task: impl Fn(usize, usize) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        let failure = Mutex::new(None);
        self.run_with_slot(tasks, |slot, index| {
            if let Err(error) = task(slot, index) {
                lock(&failure).get_or_insert(error);
            }
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// Splits `data` into pieces of `piece` elements (the last may be shorter) and calls `task`
    /// with each piece's number and the piece.
    pub fn run_pieces<T: Send>(&self, data: &mut [T], piece: usize, task: impl Fn(usize, &mut [T]) + Sync) {
        let piece = piece.max(1);
        let length = data.len();
        let shared = SharedSlice::new(data);
        self.run(length.div_ceil(piece), |index| {
            let start = index * piece;
            // SAFETY: each index is run once, and its piece overlaps no other.
            let part = unsafe { shared.part(start, piece.min(length - start)) };
            task(index, part);
        });
    }
}

impl Pool {
    /// As [`run_pieces`](Self::run_pieces), but `task` gets an even share of `scratch` as well,
    /// which no other task holds at the same time; its content is what earlier tasks left.
    pub fn run_pieces_with<T: Send, U: Send>(
        &self,
        data: &mut [T],
        piece: usize,
        scratch: &mut [U],
        task: impl Fn(usize, &mut [T], &mut [U]) + Sync,
    ) {
        let piece = piece.max(1);
        let (length, share) = (data.len(), scratch.len() / self.threads());
        let (data, scratch) = (SharedSlice::new(data), SharedSlice::new(scratch));
        self.run_with_slot(length.div_ceil(piece), |thread, index| {
            let start = index * piece;
            // SAFETY: each index is run once, and its piece overlaps no other.
            let part = unsafe { data.part(start, piece.min(length - start)) };
            // SAFETY: the share of a thread is held by one task at a time.
            let scratch = unsafe { scratch.part(thread * share, share) };
            task(index, part, scratch);
        });
    }
}

impl Pool {
    /// As [`run_pieces_with`](Self::run_pieces_with), over two slices of one length that are cut
    /// alike.
    pub fn run_pairs_with<T: Send, U: Send, V: Send>(
        &self,
        (first, second): (&mut [T], &mut [U]),
        piece: usize,
        scratch: &mut [V],
        task: impl Fn(usize, &mut [T], &mut [U], &mut [V]) + Sync,
    ) {
        let second = SharedSlice::new(second);
        self.run_pieces_with(first, piece, scratch, |index, first, scratch| {
            // SAFETY: each index is run once, and its piece overlaps no other.
            let second = unsafe { second.part(index * piece.max(1), first.len()) };
            task(index, first, second, scratch);
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.wake(usize::MAX);
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks, so there is no failure to report.
            let _ = worker.join();
        }
    }
}

impl Slot {
    fn new() -> Slot {
        Slot {
            state: AtomicUsize::new(FREE),
            next: AtomicUsize::new(0),
            tasks: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            panic: Mutex::new(None),
            done: Mutex::new(()),
            left: Condvar::new(),
        }
    }

    fn claim(&self) -> bool {
        self.state.compare_exchange(FREE, OWNED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn post(&self, tasks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        let task: *const (dyn Fn(usize, usize) + Sync) = task;
        // SAFETY: only the lifetime changes; `finish` keeps the workers' use inside it.
        let task = unsafe {
            std::mem::transmute::<
                *const (dyn Fn(usize, usize) + Sync + '_),
                *const (dyn Fn(usize, usize) + Sync + 'static),
            >(task)
        };
        self.next.store(0, Ordering::Relaxed);
        self.tasks.store(tasks, Ordering::Relaxed);
        // SAFETY: the slot is owned and closed, so no worker reads the job now.
        unsafe { *self.job.get() = Some(Job(task)) };
        self.state.store(OWNED | OPEN, Ordering::Release);
    }

    /// Enters the slot if it is open and has a task left.
    fn enter(&self) -> bool {
        let mut state = self.state.load(Ordering::Relaxed);
        while state & OPEN != 0 && self.next.load(Ordering::Relaxed) < self.tasks.load(Ordering::Relaxed) {
            let entered =
                self.state.compare_exchange_weak(state, state + 1, Ordering::Acquire, Ordering::Relaxed);
            match entered {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    /// Works as the worker with this number until no task is left, then leaves.
    fn help(&self, worker: usize) {
        // SAFETY: a worker inside an open slot may read the job; nobody writes it.
        let job = unsafe { *self.job.get() };
        let Job(task) = job.expect("an open slot has a job");
        // SAFETY: the caller waits in `finish` until this worker has left.
        let task = unsafe { &*task };
        self.take_tasks(worker, task);
        let before = self.state.fetch_sub(1, Ordering::AcqRel);
        if before == OWNED + 1 {
            drop(lock(&self.done));
            self.left.notify_all();
        }
    }

    fn take_tasks(&self, place: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        let tasks = self.tasks.load(Ordering::Relaxed);
        INSIDE.set(true);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let index = self.next.fetch_add(1, Ordering::Relaxed);
                if index >= tasks {
                    break;
                }
                task(place, index);
            }
        }));
        INSIDE.set(false);
        if let Err(payload) = outcome {
            self.next.store(tasks, Ordering::Relaxed);
            lock(&self.panic).get_or_insert(payload);
        }
    }

    /// Closes the slot, waits until every worker has left, frees it and yields a panic, if any.
    fn finish(&self) -> Option<Box<dyn Any + Send>> {
        self.state.fetch_and(!OPEN, Ordering::AcqRel);
        let empty = || self.state.load(Ordering::Acquire) == OWNED;
        if !spin_until(empty) {
            let mut guard = lock(&self.done);
            while !empty() {
                guard = self.left.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
        }
        let payload = lock(&self.panic).take();
        self.state.store(FREE, Ordering::Release);
        payload
    }
}

impl Shared {
    fn work(&self, worker: usize) {
        while !self.stop.load(Ordering::Relaxed) {
            let seen = self.posted.load(Ordering::SeqCst);
            let mut helped = false;
            for slot in &self.slots {
                if slot.enter() {
                    slot.help(worker);
                    helped = true;
                }
            }
            if !helped && !spin_until(|| self.posted.load(Ordering::Relaxed) != seen) {
                self.sleep_unless_posted_since(seen);
            }
        }
    }

    fn sleep_unless_posted_since(&self, seen: usize) {
        let mut guard = lock(&self.sleep);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while self.posted.load(Ordering::SeqCst) == seen && !self.stop.load(Ordering::SeqCst) {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Tells the workers of a new job that has use for `wanted` of them.
    fn wake(&self, wanted: usize) {
        self.posted.fetch_add(1, Ordering::SeqCst);
        let sleepers = self.sleepers.load(Ordering::SeqCst);
        if sleepers == 0 {
            return;
        }
        drop(lock(&self.sleep));
        if wanted >= sleepers {
            self.wake.notify_all();
        } else {
            (0..wanted).for_each(|_| self.wake.notify_one());
        }
    }
}

fn spin_until(ready: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        for _ in 0..16 {
            if ready() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > SPIN {
            return false;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mutable slice whose disjoint parts go to different tasks.
pub struct SharedSlice<'a, T> {
    start: *mut T,
    length: usize,
    borrowed: PhantomData<&'a mut [T]>,
}

// SAFETY: the parts handed out are disjoint (the promise of `part`'s callers), so threads share
// the slice as they would after splitting it.
unsafe impl<T: Send> Sync for SharedSlice<'_, T> {}

impl<'a, T> SharedSlice<'a, T> {
    /// Takes over the slice for as long as it is borrowed.
    pub fn new(slice: &'a mut [T]) -> SharedSlice<'a, T> {
        SharedSlice { start: slice.as_mut_ptr(), length: slice.len(), borrowed: PhantomData }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The pointer to the first element.
    pub fn as_ptr(&self) -> *mut T {
        self.start
    }

    /// `length` elements from `start`; out of range is a panic.
    ///
    /// # Safety
    /// No other part that overlaps this one may be alive.
    #[allow(clippy::mut_from_ref)] // disjointness is the caller's promise
    pub unsafe fn part(&self, start: usize, length: usize) -> &mut [T] {
        let end = start.checked_add(length);
        assert!(end.is_some_and(|end| end <= self.length), "a part lies inside its slice");
        // SAFETY: in range, and the caller promises that no overlapping part is alive.
        unsafe { std::slice::from_raw_parts_mut(self.start.wrapping_add(start), length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        for threads in [1, 2, 3, 5] {
            let pool = Pool::new(threads).expect("threads start");
            for tasks in [0, 1, 2, 7, 1000] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run_with_slot(tasks, |place, index| {
                    assert!(place < threads);
                    counts[index].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn many_short_jobs_and_sleeping_workers() {
        let pool = Pool::new(3).expect("threads start");
        let total = AtomicUsize::new(0);
        for round in 0..2000 {
            pool.run(4, |index| {
                total.fetch_add(index, Ordering::Relaxed);
            });
            if round % 500 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        assert_eq!(total.into_inner(), 2000 * 6);
    }

    #[test]
    fn pieces_have_scratch_of_their_own() {
        let pool = Pool::new(3).expect("threads start");
        let (mut data, mut scratch) = (vec![0usize; 100], vec![0usize; 3 * 7 + 2]);
        pool.run_pieces_with(&mut data, 7, &mut scratch, |index, piece, scratch| {
            assert_eq!(scratch.len(), 7);
            scratch.fill(index + 1);
            std::thread::yield_now();
            piece.copy_from_slice(&scratch[..piece.len()]);
        });
        assert!(data.iter().enumerate().all(|(at, &x)| x == at / 7 + 1));
    }

    #[test]
    fn nested_calls_run_inline() {
        let pool = Pool::new(4).expect("threads start");
        let total = AtomicUsize::new(0);
        pool.run(8, |_| {
            let here = std::thread::current().id();
            pool.run(8, |_| {
                assert_eq!(std::thread::current().id(), here);
                total.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(total.into_inner(), 64);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_survives() {
        let pool = Pool::new(3).expect("threads start");
        for bad in [0, 17, 63] {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.run(64, |index| assert_ne!(index, bad, "the task that fails"));
            }));
            assert!(outcome.is_err());
        }
        let done = AtomicUsize::new(0);
        pool.run(64, |_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 64);
    }

    #[test]
    fn several_callers_share_the_workers() {
        let pool = Pool::new(2).expect("threads start");
        let total = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        pool.run(5, |_| {
                            total.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 12 * 200 * 5);
    }

    #[test]
    fn pieces_cover_the_slice() {
        let pool = Pool::new(2).expect("threads start");
        let mut data = vec![0usize; 1003];
        pool.run_pieces(&mut data, 10, |number, piece| piece.fill(number + 1));
        assert!(data.iter().enumerate().all(|(i, &x)| x == i / 10 + 1));
        pool.run_pieces(&mut [] as &mut [u8], 0, |_, _| unreachable!("no piece to visit"));
    }
}
