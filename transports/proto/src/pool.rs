//! Where received bytes wait that nobody has taken yet: chunks of one pool, shared by all channels
//! of a link, and each channel's queue of them, which may have gaps. Knows no channel.
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

/// The bytes of one channel that wait, and behind them perhaps a gap, and others. All zeroes is empty.
///
/// Its chunks are a chain without gaps: a gap has chunks too, whose contents mean nothing yet.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Queue {
    first: u32,
    last: u32,
    /// Up to the first gap.
    bytes: u32,
    /// Up to the end of the last byte that is there.
    span: u32,
    /// Bytes of the first chunk that were taken already; 0 when empty.
    skipped: u16,
}

impl Queue {
    pub(crate) const EMPTY: Queue = Queue { first: 0, last: 0, bytes: 0, span: 0, skipped: 0 };

    /// How many wait, up to the first gap.
    pub(crate) fn bytes(&self) -> u32 {
        self.bytes
    }

    pub(crate) fn skipped(&self) -> u16 {
        self.skipped
    }

    /// Copies them behind those before the first gap; their chunks must have been reserved. Where there
    /// was a gap, [`Queue::join`] says how much of it is closed now. O(bytes), and O(chunks) if there
    /// are gaps.
    pub(crate) fn push(&mut self, pool: &mut Pool<'_>, bytes: &[u8]) {
        self.place(pool, self.bytes, bytes);
        self.bytes += bytes.len() as u32;
    }

    /// Copies bytes to their place, so many behind the oldest; their chunks must have been reserved.
    /// O(bytes), and O(chunks) if it is not at the end: at most a window's, in one array.
    pub(crate) fn place(&mut self, pool: &mut Pool<'_>, distance: u32, mut bytes: &[u8]) {
        let mut at = usize::from(self.skipped) + distance as usize;
        let held = chunks_for(self.skipped, self.span) as usize;
        // The chunk whose place is known, and its place; the last if it is not too late.
        let (mut number, mut place) = match held.checked_sub(1) {
            Some(last) if at / CHUNK_BYTES >= last => (last, self.last),
            Some(_) => (0, self.first),
            None if bytes.is_empty() => return,
            None => (0, self.append(pool)),
        };
        self.span = self.span.max(distance + bytes.len() as u32);
        while !bytes.is_empty() {
            while number < at / CHUNK_BYTES {
                place = match pool.next[place as usize - 1] {
                    0 => self.append(pool),
                    next => next,
                };
                number += 1;
            }
            let from = at % CHUNK_BYTES;
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - from));
            pool.chunks[place as usize - 1][from..from + now.len()].copy_from_slice(now);
            at += now.len();
            bytes = later;
        }
    }

    fn append(&mut self, pool: &mut Pool<'_>) -> u32 {
        let place = pool.take();
        match self.last {
            0 => self.first = place,
            last => pool.next[last as usize - 1] = place,
        }
        self.last = place;
        place
    }

    /// A gap was closed: so many are in one row now.
    pub(crate) fn join(&mut self, bytes: u32) {
        debug_assert!(self.bytes <= bytes && bytes <= self.span);
        self.bytes = bytes;
    }

    /// Forgets all. O(chunks).
    pub(crate) fn clear(&mut self, pool: &mut Pool<'_>) {
        for _ in 0..chunks_for(self.skipped, self.span) {
            self.first = pool.give_back(self.first);
        }
        *self = Queue::EMPTY;
    }

    /// The oldest, as many as lie in one piece; none only if none wait before the first gap.
    pub(crate) fn front<'p>(&self, pool: &'p Pool<'_>) -> &'p [u8] {
        if self.bytes == 0 {
            return &[];
        }
        let from = usize::from(self.skipped);
        let until = CHUNK_BYTES.min(from + self.bytes as usize);
        &pool.chunks[self.first as usize - 1][from..until]
    }

    /// Takes away the oldest, at most all before the first gap; gives how many. O(bytes).
    pub(crate) fn pop(&mut self, pool: &mut Pool<'_>, bytes: u32) -> u32 {
        let bytes = bytes.min(self.bytes);
        let mut left = bytes;
        while left > 0 {
            let here = left.min(CHUNK_BYTES as u32 - u32::from(self.skipped));
            left -= here;
            self.bytes -= here;
            self.span -= here;
            self.skipped += here as u16;
            if self.span == 0 || usize::from(self.skipped) == CHUNK_BYTES {
                self.first = pool.give_back(self.first);
                self.skipped = 0;
            }
        }
        if self.span == 0 {
            *self = Queue::EMPTY;
        }
        bytes
    }

    /// Up to the end of the last byte that is there.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn span(&self) -> u32 {
        self.span
    }

    /// How many chunks it holds.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn chunks(&self) -> u32 {
        chunks_for(self.skipped, self.span)
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

        /// Bytes come to their places in any order and more than once, and are taken as far as there
        /// is no gap: as from one array, beside another that says which are there.
        #[test]
        fn a_queue_with_gaps_is_an_array(
            acts in prop::collection::vec(
                (0..8u8, prop_oneof![0..20usize, 0..CHUNKS * CHUNK_BYTES], prop_oneof![1..9usize, 1..2 * CHUNK_BYTES]),
                0..ACTIONS,
            ),
        ) {
            let mut chunks = Box::new([[0xee; CHUNK_BYTES]; CHUNKS]);
            let mut next = [9; CHUNKS];
            let mut pool = Pool::new(&mut chunks[..], &mut next);
            prop_assert!(pool.reserve(CHUNKS as u32));
            let mut queue = Queue::EMPTY;
            let mut there = Vec::<bool>::new();
            // The offset of the oldest byte: each has a value of its own.
            let mut taken = 0;
            let value = |at: usize| (at ^ at >> 8) as u8;
            for (act, at, bytes) in acts {
                match act {
                    0 | 1 => {
                        let popped = queue.pop(&mut pool, at as u32) as usize;
                        let row = there.iter().take_while(|&&is| is).count();
                        prop_assert_eq!(popped, at.min(row));
                        there.drain(..popped);
                        taken += popped;
                    }
                    2 if bytes == 7 => {
                        queue.clear(&mut pool);
                        there.clear();
                    }
                    _ => {
                        let most = CHUNKS * CHUNK_BYTES - usize::from(queue.skipped);
                        let bytes = bytes.min(most.saturating_sub(at));
                        if bytes == 0 {
                            continue;
                        }
                        let data: Vec<u8> = (at..at + bytes).map(|at| value(taken + at)).collect();
                        queue.place(&mut pool, at as u32, &data);
                        there.resize(there.len().max(at + bytes), false);
                        there[at..at + bytes].fill(true);
                        queue.join(there.iter().take_while(|&&is| is).count() as u32);
                    }
                }
                prop_assert_eq!(queue.span() as usize, there.len());
                prop_assert_eq!(pool.used(), queue.chunks());
                prop_assert!(pool.used() <= CHUNKS as u32);
                let front = queue.front(&pool);
                prop_assert_eq!(front.is_empty(), !there.first().is_some_and(|&is| is));
                prop_assert!(front.iter().enumerate().all(|(at, &byte)| byte == value(taken + at)));
                // And all that can be taken.
                let (mut copy, mut at) = (queue, 0);
                while copy.bytes > 0 {
                    let front = copy.front(&pool);
                    let here = front.len() as u32;
                    prop_assert!(front.iter().zip(taken + at..).all(|(&byte, at)| byte == value(at)));
                    at += front.len();
                    (copy.bytes, copy.span) = (copy.bytes - here, copy.span - here);
                    let end = usize::from(copy.skipped) + here as usize;
                    if end == CHUNK_BYTES {
                        copy.first = pool.next[copy.first as usize - 1];
                    }
                    copy.skipped = (end % CHUNK_BYTES) as u16;
                }
                prop_assert_eq!(at, there.iter().take_while(|&&is| is).count());
            }
            queue.clear(&mut pool);
            prop_assert_eq!(pool.used(), 0);
        }
    }
}
