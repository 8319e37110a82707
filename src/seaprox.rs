//! The static memory: everything a proxy will ever use, sized at compile time, in .bss. Knows how
//! it is split among threads, and nothing of what they do with it.

use crate::completion::Mailbox;
use crate::share::{Commons, Share};
use crate::side::Side;
use crate::table::{BUFFER_BYTES, Stamps, Table};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// A table of at most `MAX_NUM_CONNECTIONS` connections, for at most `NUM_THREADS` threads.
///
/// All zeroes when new, so a `static` of it takes no space in the program's file, and the kernel
/// gives it memory only as it is touched.
///
/// ```
/// use seaprox::Seaprox;
/// static PROXY: Seaprox<100, 2> = Seaprox::new();
/// let tables = PROXY.claim(2, 100).expect("claimed once");
/// assert_eq!(tables.map(|table| table.capacity()).sum::<usize>(), 100);
/// assert!(PROXY.claim(2, 100).is_none(), "and only once");
/// ```
pub struct Seaprox<const MAX_NUM_CONNECTIONS: usize, const NUM_THREADS: usize> {
    storage: UnsafeCell<Storage<MAX_NUM_CONNECTIONS, NUM_THREADS>>,
    mailboxes: [Mailbox; MAX_NUM_CONNECTIONS],
    shares: [Share; NUM_THREADS],
    order: AtomicU8,
    claimed: AtomicBool,
}

/// What each thread owns alone.
struct Storage<const MAX_NUM_CONNECTIONS: usize, const NUM_THREADS: usize> {
    keys: [[u32; 2]; MAX_NUM_CONNECTIONS],
    sides: [[Side; 2]; MAX_NUM_CONNECTIONS],
    stamps: [Stamps; MAX_NUM_CONNECTIONS],
    deadlines: [u32; MAX_NUM_CONNECTIONS],
    buffers: [[u8; BUFFER_BYTES]; NUM_THREADS],
}

// SAFETY: `storage` is reached only through `&mut self`, or once through `claim`, which hands out
// disjoint slices; everything else is atomic.
#[allow(unsafe_code)]
unsafe impl<const MAX_NUM_CONNECTIONS: usize, const NUM_THREADS: usize> Sync
    for Seaprox<MAX_NUM_CONNECTIONS, NUM_THREADS>
{
}

impl<const MAX_NUM_CONNECTIONS: usize, const NUM_THREADS: usize>
    Seaprox<MAX_NUM_CONNECTIONS, NUM_THREADS>
{
    /// Bytes of user memory, all of it: the size of this type.
    pub const MEMORY_BYTES: usize = {
        assert!(NUM_THREADS >= 1, "at least one thread");
        assert!(MAX_NUM_CONNECTIONS >= NUM_THREADS, "at least one connection a thread");
        assert!(MAX_NUM_CONNECTIONS < 1 << 28, "slots are numbered with 29 bits");
        assert!(NUM_THREADS <= 1 << 12, "tickets number threads with 12 bits");
        size_of::<Self>()
    };

    /// Bytes of the table, which grow with MAX_NUM_CONNECTIONS.
    pub const TABLE_BYTES: usize = Self::MEMORY_BYTES - Self::THREADS_BYTES;

    /// Bytes of buffers and counters, which grow with NUM_THREADS.
    pub const THREADS_BYTES: usize = NUM_THREADS * (BUFFER_BYTES + size_of::<Share>());

    /// An empty table.
    #[allow(clippy::new_without_default)] // a default is made on the stack; this belongs in a static
    pub const fn new() -> Self {
        const { assert!(Self::MEMORY_BYTES > 0) };
        Seaprox {
            storage: UnsafeCell::new(Storage {
                keys: [[0; 2]; MAX_NUM_CONNECTIONS],
                sides: [[Side::IDLE; 2]; MAX_NUM_CONNECTIONS],
                stamps: [Stamps { touched: 0, over: 0, unacknowledged: 0 }; MAX_NUM_CONNECTIONS],
                deadlines: [0; MAX_NUM_CONNECTIONS],
                buffers: [[0; BUFFER_BYTES]; NUM_THREADS],
            }),
            mailboxes: [const { Mailbox::new() }; MAX_NUM_CONNECTIONS],
            shares: [const { Share::new() }; NUM_THREADS],
            order: AtomicU8::new(0),
            claimed: AtomicBool::new(false),
        }
    }

    /// Splits memory you own into `threads` tables of `connections` connections in all: thread `i`
    /// gets `connections / threads`, one more if `i < connections % threads`. Forgets whatever
    /// the memory held.
    ///
    /// Both numbers are lowered to what was compiled in, and raised to one a thread.
    pub fn tables(&mut self, threads: usize, connections: usize) -> Tables<'_> {
        self.shares.fill_with(Share::new);
        self.mailboxes.fill_with(Mailbox::new);
        *self.order.get_mut() = 0;
        let storage = self.storage.get_mut();
        storage.keys.fill([0; 2]);
        storage.sides.fill([Side::IDLE; 2]);
        storage.stamps.fill(Stamps::default());
        storage.deadlines.fill(0);
        let commons =
            Commons { mailboxes: &self.mailboxes, shares: &self.shares, order: &self.order };
        storage.split(commons, threads, connections)
    }

    /// The same for a plain `static`; `None` when it was claimed before.
    #[allow(unsafe_code)]
    pub fn claim(&'static self, threads: usize, connections: usize) -> Option<Tables<'static>> {
        if self.claimed.swap(true, Ordering::AcqRel) {
            return None;
        }
        // SAFETY: the flag was clear, so this is the only reference there will ever be: `tables`
        // needs `&mut`, which a `&'static self` excludes.
        let storage = unsafe { &mut *self.storage.get() };
        Some(storage.split(self.commons(), threads, connections))
    }

    /// What all threads see, and any other may use to complete a ticket or to give an order.
    pub fn commons(&self) -> Commons<'_> {
        Commons { mailboxes: &self.mailboxes, shares: &self.shares, order: &self.order }
    }
}

impl<const MAX_NUM_CONNECTIONS: usize, const NUM_THREADS: usize>
    Storage<MAX_NUM_CONNECTIONS, NUM_THREADS>
{
    fn split<'a>(
        &'a mut self,
        commons: Commons<'a>,
        threads: usize,
        connections: usize,
    ) -> Tables<'a> {
        let threads = threads.clamp(1, NUM_THREADS);
        Tables {
            keys: self.keys.as_flattened_mut(),
            sides: self.sides.as_flattened_mut(),
            stamps: &mut self.stamps,
            deadlines: &mut self.deadlines,
            buffers: &mut self.buffers,
            commons,
            threads,
            connections: connections.clamp(threads, MAX_NUM_CONNECTIONS),
            next: 0,
            first_mailbox: 0,
        }
    }
}

/// The tables of the threads, one after the other.
pub struct Tables<'a> {
    keys: &'a mut [u32],
    sides: &'a mut [Side],
    stamps: &'a mut [Stamps],
    deadlines: &'a mut [u32],
    buffers: &'a mut [[u8; BUFFER_BYTES]],
    commons: Commons<'a>,
    threads: usize,
    connections: usize,
    next: usize,
    first_mailbox: usize,
}

/// Cuts the first `count` elements off a slice.
fn cut<'a, T>(slice: &mut &'a mut [T], count: usize) -> &'a mut [T] {
    let (head, tail) = core::mem::take(slice).split_at_mut(count);
    *slice = tail;
    head
}

impl<'a> Iterator for Tables<'a> {
    type Item = Table<'a>;

    fn next(&mut self) -> Option<Table<'a>> {
        if self.next == self.threads {
            return None;
        }
        let thread = self.next;
        let connections =
            self.connections / self.threads + usize::from(thread < self.connections % self.threads);
        let first_mailbox = self.first_mailbox;
        self.next += 1;
        self.first_mailbox += connections;
        self.commons.shares[thread].limit.store(connections as u32, Ordering::Relaxed);
        Some(Table {
            keys: cut(&mut self.keys, connections * 2),
            sides: cut(&mut self.sides, connections * 2),
            stamps: cut(&mut self.stamps, connections),
            deadlines: cut(&mut self.deadlines, connections),
            buffer: cut(&mut self.buffers, 1).as_flattened_mut(),
            commons: self.commons,
            thread: thread as u32,
            first_mailbox: first_mailbox as u32,
            occupied: 0,
            vacant: 0,
            high_water: 0,
        })
    }
}
