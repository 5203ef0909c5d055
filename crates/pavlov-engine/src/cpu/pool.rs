//! A fork-join pool whose workers spin briefly before they sleep: a decoding step of a small model forks hundreds of
//! times a millisecond, and waking a sleeping thread each time would cost more than the work.
//!
//! Tasks are numbered and claimed one by one, so which thread runs a task is arbitrary and must not matter: every
//! kernel writes disjoint outputs per task and sums in an order that the task alone decides.
#![expect(
    unsafe_code,
    reason = "a borrowed closure and disjoint slices cross threads for the length of one run"
)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// How many times a worker looks for work before it sleeps (some tens of microseconds to 0.1 ms).
const SPINS: u32 = 2_000;

type Job = *const (dyn Fn(usize) + Sync);

struct Shared {
    /// Number of the current job; a change tells the workers that there is one.
    epoch: AtomicUsize,
    /// The job of this epoch: written before the epoch changes, read after.
    job: Mutex<(Option<SendJob>, usize)>,
    next: AtomicUsize,
    /// Workers that have not finished the current epoch.
    busy: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
    sleepers: AtomicUsize,
    gate: Mutex<()>,
    wake: Condvar,
}

#[derive(Clone, Copy)]
struct SendJob(Job);
// SAFETY: the closure behind the pointer is Sync, and `run` does not return before every worker is done with it.
unsafe impl Send for SendJob {}

/// Threads that run numbered tasks together with the caller.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One run at a time: the pool has one job slot.
    turn: Mutex<()>,
}

impl Pool {
    /// A pool of `threads` threads, the caller's included.
    pub(crate) fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            job: Mutex::new((None, 0)),
            next: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            gate: Mutex::new(()),
            wake: Condvar::new(),
        });
        let workers = (1..threads.max(1))
            .map(|_| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.work())
            })
            .collect();
        Self { shared, workers, turn: Mutex::new(()) }
    }

    /// Number of threads, the caller's included.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `task(0) … task(tasks - 1)`, each once, on all threads, and returns when all are done.
    pub(crate) fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        if tasks <= 1 || self.workers.is_empty() {
            (0..tasks).for_each(task);
            return;
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; workers drop the pointer before `busy` reaches zero, which ends this call.
        let job: Job =
            unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(task) };
        *shared.job.lock().unwrap_or_else(PoisonError::into_inner) = (Some(SendJob(job)), tasks);
        shared.next.store(0, Ordering::Relaxed);
        shared.busy.store(self.workers.len(), Ordering::Relaxed);
        shared.epoch.fetch_add(1, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            let _gate = shared.gate.lock().unwrap_or_else(PoisonError::into_inner);
            shared.wake.notify_all();
        }
        // The workers must be waited for even if the caller's share panics: they hold the borrowed closure.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| shared.drain(task, tasks)));
        let mut spins = 0_u32;
        while shared.busy.load(Ordering::Acquire) > 0 {
            spins += 1;
            if spins > SPINS { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        if let Err(panic) = outcome {
            shared.panicked.store(false, Ordering::Relaxed);
            std::panic::resume_unwind(panic);
        }
        assert!(!shared.panicked.swap(false, Ordering::Relaxed), "a kernel task panicked on a worker thread");
    }

    /// Splits `data` into chunks of `chunk` elements and runs `task(i, chunk_i)` on all threads.
    pub(crate) fn chunks<T: Send>(
        &self,
        data: &mut [T],
        chunk: usize,
        task: impl Fn(usize, &mut [T]) + Sync,
    ) {
        if data.is_empty() {
            return;
        }
        let shared = SharedMut::new(data);
        self.run(shared.len.div_ceil(chunk), &|i| {
            let start = i * chunk;
            // SAFETY: tasks are distinct, so their ranges are disjoint, and each lies inside `data`.
            task(i, unsafe { shared.slice(start, chunk.min(shared.len - start)) });
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        {
            let _gate = self.shared.gate.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            // A worker only ends by `stop`; a panic inside a task was already reported by `run`.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn drain(&self, task: &(dyn Fn(usize) + Sync), tasks: usize) {
        loop {
            let i = self.next.fetch_add(1, Ordering::Relaxed);
            if i >= tasks {
                return;
            }
            task(i);
        }
    }

    fn work(&self) {
        let mut seen = 0;
        loop {
            let epoch = self.await_epoch(seen);
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            seen = epoch;
            let (job, tasks) = *self.job.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(SendJob(job)) = job {
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    // SAFETY: `run` keeps the closure alive until this worker lowers `busy`, below.
                    self.drain(unsafe { &*job }, tasks);
                }));
                if outcome.is_err() {
                    self.panicked.store(true, Ordering::Relaxed);
                }
            }
            self.busy.fetch_sub(1, Ordering::Release);
        }
    }

    fn await_epoch(&self, seen: usize) -> usize {
        for _ in 0..SPINS {
            let epoch = self.epoch.load(Ordering::Acquire);
            if epoch != seen {
                return epoch;
            }
            std::hint::spin_loop();
        }
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let epoch = loop {
            let epoch = self.epoch.load(Ordering::SeqCst);
            if epoch != seen {
                break epoch;
            }
            gate = self.wake.wait(gate).unwrap_or_else(PoisonError::into_inner);
        };
        drop(gate);
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        epoch
    }
}

/// A slice that tasks write disjoint parts of.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut<'a, T> {
    pointer: *mut T,
    /// Number of elements.
    pub(crate) len: usize,
    borrow: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: access goes through `slice` and `pointer`, whose callers promise disjointness.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    /// Shares a mutable slice for the length of its borrow.
    pub(crate) fn new(data: &'a mut [T]) -> Self {
        Self { pointer: data.as_mut_ptr(), len: data.len(), borrow: std::marker::PhantomData }
    }

    /// The elements `start .. start + len`.
    ///
    /// # Safety
    /// No two live slices may overlap.
    #[expect(clippy::mut_from_ref, reason = "the caller promises that ranges are disjoint")]
    pub(crate) unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start + len <= self.len, "task range {start}+{len} of {}", self.len);
        // SAFETY: inside the borrowed slice by the assertion, disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.add(start), len) }
    }

    /// Address of element `at`, for kernels that write strided tiles.
    pub(crate) fn pointer_at(&self, at: usize) -> *mut T {
        assert!(at < self.len, "task element {at} of {}", self.len);
        self.pointer.wrapping_add(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_on_any_thread_count() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads);
            for tasks in [0, 1, 2, 7, 1000] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, &|i| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(
                    counts.iter().all(|c| c.load(Ordering::Relaxed) == 1),
                    "{threads} threads, {tasks} tasks"
                );
            }
        }
    }

    #[test]
    fn chunks_cover_the_slice() {
        let pool = Pool::new(3);
        let mut data = vec![0; 103];
        pool.chunks(&mut data, 10, |i, chunk| {
            chunk.iter_mut().enumerate().for_each(|(j, x)| *x = i * 10 + j);
        });
        assert_eq!(data, (0..103).collect::<Vec<_>>());
    }

    #[test]
    fn a_sleeping_pool_wakes() {
        let pool = Pool::new(2);
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let total = AtomicUsize::new(0);
            pool.run(100, &|i| {
                total.fetch_add(i, Ordering::Relaxed);
            });
            assert_eq!(total.load(Ordering::Relaxed), 4950);
        }
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_and_the_pool_survives() {
        let pool = Pool::new(2);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(64, &|i| assert!(i != 40, "planted"));
        }));
        assert!(outcome.is_err());
        let total = AtomicUsize::new(0);
        pool.run(10, &|i| {
            total.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(total.load(Ordering::Relaxed), 45);
    }
}
