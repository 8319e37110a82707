//! Where received bytes wait that nobody has taken yet: chunks of one pool, shared by all channels
//! of a link, and each channel's queue of them. Knows no channel.
//!
//! Invariant: chunks in use never exceed chunks reserved, and those never exceed all there are. So
//! whoever stays within a reservation always finds a chunk.

/// Bytes of a chunk: a page, so that chunks never used cost nothing.
pub const CHUNK_BYTES: usize = 4096;

/// Chunks that `bytes` may take up when the first of them lies `skipped` bytes into its chunk.
pub(crate) const fn chunks_for(skipped: u16, bytes: u32) -> u32 {
    if bytes == 0 { 0 } else { (skipped as u32 + bytes).div_ceil(CHUNK_BYTES as u32) }
}

/// The chunks, lent by the static memory.
pub(crate) struct Pool<'m> {
    chunks: &'m mut [[u8; CHUNK_BYTES]],
    /// Of each chunk the place of the next one in its queue or in the free list. A place is a
    /// chunk's number + 1; 0 is none.
    next: &'m mut [u32],
    free: u32,
    /// Chunks from here on were never used.
    fresh: u32,
    used: u32,
    reserved: u32,
}

impl<'m> Pool<'m> {
    /// All of them free, whatever the memory held.
    pub(crate) fn new(chunks: &'m mut [[u8; CHUNK_BYTES]], next: &'m mut [u32]) -> Self {
        Pool { chunks, next, free: 0, fresh: 0, used: 0, reserved: 0 }
    }

    /// Everything is free again; every queue must be forgotten. O(1).
    pub(crate) fn clear(&mut self) {
        (self.free, self.fresh, self.used, self.reserved) = (0, 0, 0, 0);
    }

    pub(crate) fn len(&self) -> u32 {
        self.chunks.len() as u32
    }

    /// Chunks that nobody was promised.
    pub(crate) fn unreserved(&self) -> u32 {
        self.len() - self.reserved
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn reserved(&self) -> u32 {
        self.reserved
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn used(&self) -> u32 {
        self.used
    }

    /// Promises so many more; `false`, and nothing happened, if there are not enough.
    #[must_use]
    pub(crate) fn reserve(&mut self, chunks: u32) -> bool {
        let enough = chunks <= self.unreserved();
        if enough {
            self.reserved += chunks;
        }
        enough
    }

    /// Takes a promise back.
    pub(crate) fn release(&mut self, chunks: u32) {
        debug_assert!(chunks <= self.reserved && self.used <= self.reserved - chunks);
        self.reserved = self.reserved.saturating_sub(chunks);
    }

    /// A chunk's place. Recently used ones first: their pages are there.
    fn take(&mut self) -> u32 {
        let place = if self.free != 0 {
            let place = self.free;
            self.free = self.next[place as usize - 1];
            place
        } else if self.fresh < self.len() {
            self.fresh += 1;
            self.fresh
        } else {
            unreachable!("a chunk was reserved")
        };
        self.next[place as usize - 1] = 0;
        self.used += 1;
        place
    }

    /// Frees a chunk, and gives the place of the one that followed it.
    fn give_back(&mut self, place: u32) -> u32 {
        let link = &mut self.next[place as usize - 1];
        let following = core::mem::replace(link, self.free);
        self.free = place;
        self.used -= 1;
        following
    }
}

/// The bytes of one channel that wait. All zeroes is empty.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Queue {
    first: u32,
    last: u32,
    bytes: u32,
    /// Bytes of the first chunk that were taken already; 0 when empty.
    skipped: u16,
}

impl Queue {
    pub(crate) const EMPTY: Queue = Queue { first: 0, last: 0, bytes: 0, skipped: 0 };

    /// How many wait.
    pub(crate) fn bytes(&self) -> u32 {
        self.bytes
    }

    pub(crate) fn skipped(&self) -> u16 {
        self.skipped
    }

    /// Copies them to the end; their chunks must have been reserved. O(bytes).
    pub(crate) fn push(&mut self, pool: &mut Pool<'_>, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let at = (usize::from(self.skipped) + self.bytes as usize) % CHUNK_BYTES;
            if at == 0 || self.bytes == 0 {
                let place = pool.take();
                match self.last {
                    0 => self.first = place,
                    last => pool.next[last as usize - 1] = place,
                }
                self.last = place;
            }
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - at));
            pool.chunks[self.last as usize - 1][at..at + now.len()].copy_from_slice(now);
            self.bytes += now.len() as u32;
            bytes = later;
        }
    }

    /// The oldest, as many as lie in one piece; none only if none wait.
    pub(crate) fn front<'p>(&self, pool: &'p Pool<'_>) -> &'p [u8] {
        if self.bytes == 0 {
            return &[];
        }
        let from = usize::from(self.skipped);
        let until = CHUNK_BYTES.min(from + self.bytes as usize);
        &pool.chunks[self.first as usize - 1][from..until]
    }

    /// Takes away the oldest, at most all; gives how many. O(bytes).
    pub(crate) fn pop(&mut self, pool: &mut Pool<'_>, bytes: u32) -> u32 {
        let bytes = bytes.min(self.bytes);
        let mut left = bytes;
        while left > 0 {
            let here = left.min(CHUNK_BYTES as u32 - u32::from(self.skipped));
            left -= here;
            self.bytes -= here;
            self.skipped += here as u16;
            if self.bytes == 0 || usize::from(self.skipped) == CHUNK_BYTES {
                self.first = pool.give_back(self.first);
                self.skipped = 0;
            }
        }
        if self.bytes == 0 {
            *self = Queue::EMPTY;
        }
        bytes
    }

    /// How many chunks it holds.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn chunks(&self) -> u32 {
        chunks_for(self.skipped, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::boxed::Box;
    use std::collections::VecDeque;
    use std::vec::Vec;

    const CHUNKS: usize = 6;

    const ACTIONS: usize = if cfg!(miri) { 10 } else { 60 };

    #[derive(Clone, Debug)]
    enum Action {
        Push(usize, usize),
        Pop(usize, usize),
    }

    fn action() -> impl Strategy<Value = Action> {
        let bytes = prop_oneof![0..9usize, 0..2 * CHUNK_BYTES, Just(CHUNK_BYTES)];
        (any::<bool>(), 0..2usize, bytes).prop_map(|(push, queue, bytes)| {
            if push { Action::Push(queue, bytes) } else { Action::Pop(queue, bytes) }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]
        #[test]
        fn queues_are_queues_and_share_the_chunks(actions in prop::collection::vec(action(), 0..ACTIONS)) {
            let mut chunks = Box::new([[0; CHUNK_BYTES]; CHUNKS]);
            let mut next = [9; CHUNKS];
            let mut pool = Pool::new(&mut chunks[..], &mut next);
            prop_assert!(pool.reserve(CHUNKS as u32) && !pool.reserve(1));
            let mut queues = [Queue::EMPTY; 2];
            let mut models = [const { VecDeque::<u8>::new() }; 2];
            let mut byte = 0u8;
            for action in actions {
                match action {
                    Action::Push(i, bytes) => {
                        let after = chunks_for(queues[i].skipped, queues[i].bytes + bytes as u32);
                        if after + queues[1 - i].chunks() <= CHUNKS as u32 {
                            let new: Vec<u8> = (0..bytes).map(|_| { byte = byte.wrapping_add(1); byte }).collect();
                            queues[i].push(&mut pool, &new);
                            models[i].extend(new);
                        }
                    }
                    Action::Pop(i, bytes) => {
                        let popped = queues[i].pop(&mut pool, bytes as u32) as usize;
                        prop_assert_eq!(popped, bytes.min(models[i].len()));
                        models[i].drain(..popped);
                    }
                }
                prop_assert_eq!(pool.used(), queues[0].chunks() + queues[1].chunks());
                for (queue, model) in queues.iter().zip(&models) {
                    prop_assert_eq!(queue.bytes() as usize, model.len());
                    let front = queue.front(&pool);
                    prop_assert_eq!(front.is_empty(), model.is_empty());
                    prop_assert!(front.iter().eq(model.iter().take(front.len())));
                }
            }
            for (queue, model) in queues.iter_mut().zip(&mut models) {
                while !model.is_empty() {
                    let front = queue.front(&pool).to_vec();
                    prop_assert!(front.iter().copied().eq(model.drain(..front.len())));
                    queue.pop(&mut pool, front.len() as u32);
                }
            }
            prop_assert_eq!(pool.used(), 0);
        }
    }
}
