//! What was given to be sent and is not known to have arrived: the messages of one datagram a slot.
//! Knows no packet number.
//!
//! Invariants: all zeroes is vacant; every slot is free, waiting, out, lost or set aside, and
//! on one list at most.
//! A slot is given another generation each time it is freed, so whoever remembers an old one finds
//! that it is gone.

use crate::packet::OVERHEAD_BYTES;

/// The longest datagram, in bytes of UDP payload: what a link with packets of 1,500 bytes takes.
pub const DATAGRAM_BYTES_MAX: usize = 1472;

/// The most bytes of messages that one takes.
pub(crate) const MESSAGES_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - OVERHEAD_BYTES;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Free,
    /// Never sent.
    Waiting,
    /// Some packet that carries it may still arrive.
    Out,
    /// Is to be sent again.
    Lost,
    /// Is to be sent, and is longer than the path takes.
    Aside,
    /// Arrived after all, while it was on a list.
    Done,
}

/// What is known of a slot.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Note {
    /// The place of the next one on its list; 0: none.
    next: u16,
    generation: u16,
    body_bytes: u16,
    /// How many packets that carry it are neither acknowledged nor lost.
    copies: u8,
    state: State,
}

impl Note {
    /// Vacant.
    pub(crate) const VACANT: Note =
        Note { next: 0, generation: 0, body_bytes: 0, copies: 0, state: State::Free };
}

/// Which slot, and whose: good until what it holds has arrived. All zeroes is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ticket {
    /// Index + 1.
    place: u16,
    generation: u16,
}

impl Ticket {
    pub(crate) const NONE: Ticket = Ticket { place: 0, generation: 0 };

    pub(crate) fn index(self) -> Option<usize> {
        usize::from(self.place).checked_sub(1)
    }
}

/// A list through the notes, first in, first out. Places are indices + 1; 0 is none.
#[derive(Clone, Copy, Default)]
struct Fifo {
    first: u16,
    last: u16,
}

impl Fifo {
    fn push(&mut self, notes: &mut [Note], place: u16) {
        notes[usize::from(place) - 1].next = 0;
        match self.last {
            0 => self.first = place,
            last => notes[usize::from(last) - 1].next = place,
        }
        self.last = place;
    }

    fn pop(&mut self, notes: &mut [Note]) -> Option<u16> {
        let place = self.first;
        let index = usize::from(place).checked_sub(1)?;
        self.first = core::mem::take(&mut notes[index].next);
        if self.first == 0 {
            self.last = 0;
        }
        Some(place)
    }
}

/// The slots of one link.
pub(crate) struct Slots<'m> {
    bytes: &'m mut [[u8; MESSAGES_BYTES_MAX]],
    notes: &'m mut [Note],
    /// Freed ones, the youngest first: their pages are there.
    free: u16,
    /// Slots from here on were never used.
    fresh: u16,
    used: u16,
    waiting: Fifo,
    lost: Fifo,
    aside: Fifo,
    /// Of datagrams that wait or are lost, overhead included.
    queued_bytes: u64,
}

impl<'m> Slots<'m> {
    /// All of them free.
    pub(crate) fn new(
        bytes: &'m mut [[u8; MESSAGES_BYTES_MAX]],
        notes: &'m mut [Note],
    ) -> Slots<'m> {
        debug_assert!(bytes.len() == notes.len() && bytes.len() < usize::from(u16::MAX));
        notes.fill(Note::VACANT);
        Slots {
            bytes,
            notes,
            free: 0,
            fresh: 0,
            used: 0,
            waiting: Fifo::default(),
            lost: Fifo::default(),
            aside: Fifo::default(),
            queued_bytes: 0,
        }
    }

    pub(crate) fn into_slices(self) -> (&'m mut [[u8; MESSAGES_BYTES_MAX]], &'m mut [Note]) {
        (self.bytes, self.notes)
    }

    /// How many can be taken.
    pub(crate) fn vacant(&self) -> usize {
        self.notes.len() - usize::from(self.used)
    }

    /// How many hold something.
    pub(crate) fn used(&self) -> usize {
        self.used.into()
    }

    /// Whether everything has arrived.
    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Bytes of datagrams that are to be sent, again or for the first time.
    pub(crate) fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    /// A free slot to be filled, by [`Slots::body_mut`] and [`Slots::queue`].
    pub(crate) fn take(&mut self) -> Option<Ticket> {
        let place = if self.free != 0 {
            let place = self.free;
            self.free = self.notes[usize::from(place) - 1].next;
            place
        } else if usize::from(self.fresh) < self.notes.len() {
            self.fresh += 1;
            self.fresh
        } else {
            return None;
        };
        self.used += 1;
        let note = &mut self.notes[usize::from(place) - 1];
        (note.next, note.body_bytes, note.copies) = (0, 0, 0);
        note.state = State::Out;
        Some(Ticket { place, generation: note.generation })
    }

    /// Its messages, and the room behind them.
    pub(crate) fn body_mut(&mut self, ticket: Ticket) -> &mut [u8] {
        &mut self.bytes[usize::from(ticket.place) - 1]
    }

    /// Its messages.
    pub(crate) fn messages(&self, ticket: Ticket) -> &[u8] {
        let index = usize::from(ticket.place) - 1;
        &self.bytes[index][..usize::from(self.notes[index].body_bytes)]
    }

    /// How many bytes of messages it has.
    pub(crate) fn body_bytes(&self, ticket: Ticket) -> usize {
        usize::from(self.notes[usize::from(ticket.place) - 1].body_bytes)
    }

    /// It was filled with so many bytes, and waits to be sent.
    pub(crate) fn queue(&mut self, ticket: Ticket, body_bytes: usize) {
        let note = &mut self.notes[usize::from(ticket.place) - 1];
        note.body_bytes = body_bytes as u16;
        note.state = State::Waiting;
        self.queued_bytes += (body_bytes + OVERHEAD_BYTES) as u64;
        self.waiting.push(self.notes, ticket.place);
    }

    /// The one that is to be sent next, and whether it was sent before: what was lost comes first. It
    /// counts as sent. Amortized O(1).
    pub(crate) fn next(&mut self) -> Option<(Ticket, bool)> {
        loop {
            let (place, is_repeated) = match self.lost.pop(self.notes) {
                Some(place) => (place, true),
                None => (self.waiting.pop(self.notes)?, false),
            };
            let note = &mut self.notes[usize::from(place) - 1];
            let bytes = usize::from(note.body_bytes) + OVERHEAD_BYTES;
            let ticket = Ticket { place, generation: note.generation };
            self.queued_bytes -= bytes as u64;
            if note.state == State::Done {
                self.free(place);
                continue;
            }
            note.state = State::Out;
            note.copies += 1;
            return Some((ticket, is_repeated));
        }
    }

    /// One more packet carries it; `false`: it has arrived in the meantime, or waits to be sent anyway.
    pub(crate) fn copy(&mut self, ticket: Ticket) -> bool {
        match self.note(ticket) {
            Some(note) if note.state == State::Out && note.copies < u8::MAX => {
                note.copies += 1;
                true
            }
            _ => false,
        }
    }

    fn note(&mut self, ticket: Ticket) -> Option<&mut Note> {
        let note = &mut self.notes[ticket.index()?];
        (note.generation == ticket.generation).then_some(note)
    }

    /// A packet that carried it arrived.
    pub(crate) fn acknowledge(&mut self, ticket: Ticket) {
        let Some(note) = self.note(ticket) else { return };
        match note.state {
            State::Out => self.free(ticket.place),
            // It is on a list.
            State::Lost | State::Waiting | State::Aside => note.state = State::Done,
            State::Free | State::Done => {}
        }
    }

    /// A packet that carried it is lost: it is to be sent again unless another one is on its way.
    pub(crate) fn lose(&mut self, ticket: Ticket) {
        let Some(note) = self.note(ticket) else { return };
        note.copies = note.copies.saturating_sub(1);
        if note.copies == 0 && note.state == State::Out {
            note.state = State::Lost;
            self.queued_bytes += u64::from(note.body_bytes) + OVERHEAD_BYTES as u64;
            self.lost.push(self.notes, ticket.place);
        }
    }

    /// What [`Slots::next`] gave is not sent now, as it is too long: it waits, and holds up nobody, until
    /// [`Slots::take_aside`] gives it again.
    pub(crate) fn set_aside(&mut self, ticket: Ticket) {
        let Some(note) = self.note(ticket) else { return };
        note.copies = note.copies.saturating_sub(1);
        if note.state == State::Out {
            note.state = State::Aside;
            self.aside.push(self.notes, ticket.place);
        }
    }

    /// Whether there may be one that was set aside.
    pub(crate) fn has_aside(&self) -> bool {
        self.aside.first != 0
    }

    /// The one that was set aside first; as [`Slots::next`]. Amortized O(1).
    pub(crate) fn take_aside(&mut self) -> Option<Ticket> {
        loop {
            let place = self.aside.pop(self.notes)?;
            let note = &mut self.notes[usize::from(place) - 1];
            if note.state == State::Done {
                self.free(place);
                continue;
            }
            note.state = State::Out;
            note.copies += 1;
            return Some(Ticket { place, generation: note.generation });
        }
    }

    /// Gives back one that was taken and neither queued nor sent.
    pub(crate) fn give_back(&mut self, ticket: Ticket) {
        if self.note(ticket).is_some_and(|note| note.state == State::Out) {
            self.free(ticket.place);
        }
    }

    fn free(&mut self, place: u16) {
        let note = &mut self.notes[usize::from(place) - 1];
        *note =
            Note { next: self.free, generation: note.generation.wrapping_add(1), ..Note::VACANT };
        self.free = place;
        self.used -= 1;
    }

    /// Every slot is where the invariant says, and so many are used.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn invariants(&self) {
        let walk = |first: u16| {
            core::iter::successors(Some(first), |&place| {
                (place != 0).then(|| self.notes[usize::from(place) - 1].next)
            })
            .take_while(|&place| place != 0)
            .take(self.notes.len() + 1)
        };
        let of = |place: u16| &self.notes[usize::from(place) - 1];
        let free = walk(self.free).inspect(|&p| assert_eq!(of(p).state, State::Free)).count();
        let listed = |fifo: &Fifo, state| {
            walk(fifo.first)
                .inspect(|&p| assert!(of(p).state == state || of(p).state == State::Done))
                .map(|p| u64::from(of(p).body_bytes) + OVERHEAD_BYTES as u64)
                .sum::<u64>()
        };
        let queued = listed(&self.waiting, State::Waiting) + listed(&self.lost, State::Lost);
        assert_eq!(queued, self.queued_bytes);
        let _ = listed(&self.aside, State::Aside);
        assert_eq!(free + usize::from(self.used), usize::from(self.fresh));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::vec::Vec;

    fn slots(count: usize) -> Slots<'static> {
        let bytes = std::vec![[0; MESSAGES_BYTES_MAX]; count].leak();
        Slots::new(bytes, std::vec![Note::VACANT; count].leak())
    }

    #[test]
    fn what_is_lost_goes_before_what_is_new_and_an_old_ticket_leads_nowhere() {
        let mut slots = slots(3);
        let [a, b, c] = [(); 3].map(|()| slots.take().unwrap());
        assert_eq!(slots.take(), None);
        slots.queue(a, 10);
        slots.queue(b, 20);
        assert_eq!(slots.next(), Some((a, false)));
        slots.lose(a);
        let next = [(); 3].map(|()| slots.next());
        assert_eq!(next, [Some((a, true)), Some((b, false)), None]);
        slots.acknowledge(a);
        slots.acknowledge(a);
        let again = slots.take().unwrap();
        assert_eq!((again.index(), again == a), (a.index(), false));
        slots.acknowledge(a);
        slots.lose(a);
        slots.queue(again, 1);
        assert_eq!(slots.next(), Some((again, false)));
        slots.give_back(c);
        assert_eq!(slots.vacant(), 1);
        slots.invariants();
    }

    #[test]
    fn it_is_sent_again_only_when_no_copy_is_on_its_way() {
        let mut slots = slots(1);
        let ticket = slots.take().unwrap();
        slots.queue(ticket, 5);
        assert!(!slots.copy(ticket), "it was not sent yet");
        slots.next();
        assert!(slots.copy(ticket));
        slots.lose(ticket);
        assert_eq!(slots.next(), None);
        slots.lose(ticket);
        assert_eq!(slots.queued_bytes(), 5 + OVERHEAD_BYTES as u64);
        slots.acknowledge(ticket);
        assert_eq!((slots.next(), slots.is_empty()), (None, true));
        slots.invariants();
    }

    #[test]
    fn what_is_set_aside_holds_up_nothing() {
        let mut slots = slots(3);
        let [a, b, c] = [(); 3].map(|()| slots.take().unwrap());
        slots.queue(a, 10);
        slots.queue(b, 20);
        assert_eq!([(); 2].map(|()| slots.next().unwrap().0), [a, b]);
        [a, b].into_iter().for_each(|ticket| slots.lose(ticket));
        assert_eq!([(); 2].map(|()| slots.next()), [Some((a, true)), Some((b, true))]);
        [a, b].into_iter().for_each(|ticket| slots.set_aside(ticket));
        slots.queue(c, 30);
        slots.invariants();
        assert_eq!(slots.queued_bytes(), (30 + OVERHEAD_BYTES) as u64);
        assert_eq!([(); 2].map(|()| slots.next()), [Some((c, false)), None]);
        // It arrived after all.
        slots.acknowledge(a);
        assert_eq!((slots.take_aside(), slots.take_aside()), (Some(b), None));
        assert_eq!((slots.vacant(), slots.has_aside()), (1, false));
        slots.lose(b);
        assert_eq!(slots.next(), Some((b, true)), "no other packet carries it");
        slots.invariants();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]
        #[test]
        fn whatever_happens_each_is_sent_until_it_arrived(
            acts in prop::collection::vec((0..5u8, any::<prop::sample::Index>()), 0..300)
        ) {
            let mut slots = slots(8);
            // Tickets with the number of packets under way, and those that are owed.
            let mut known: Vec<(Ticket, u32)> = Vec::new();
            let mut owed: VecDeque<Ticket> = VecDeque::new();
            for (act, index) in acts {
                let chosen = (!known.is_empty()).then(|| index.index(known.len()));
                match (act, chosen) {
                    (0, _) => match slots.take() {
                        Some(ticket) => {
                            slots.queue(ticket, 7);
                            known.push((ticket, 0));
                            owed.push_back(ticket);
                        }
                        // Some of those that arrived may be on a list still.
                        None => prop_assert_eq!(slots.vacant(), 0),
                    },
                    (1, _) => {
                        let next = slots.next();
                        prop_assert_eq!(next.is_some(), !owed.is_empty());
                        if let Some((next, _)) = next {
                            prop_assert!(owed.contains(&next));
                            owed.retain(|&other| other != next);
                            known.iter_mut().find(|(t, _)| *t == next).unwrap().1 += 1;
                        }
                    }
                    (2, Some(at)) if slots.copy(known[at].0) => known[at].1 += 1,
                    (3, Some(at)) if known[at].1 > 0 => {
                        slots.lose(known[at].0);
                        known[at].1 -= 1;
                        if known[at].1 == 0 {
                            owed.push_back(known[at].0);
                        }
                    }
                    (4, Some(at)) => {
                        let (ticket, _) = known.remove(at);
                        slots.acknowledge(ticket);
                        owed.retain(|&other| other != ticket);
                    }
                    _ => {}
                }
                slots.invariants();
            }
            while slots.next().is_some() {
                owed.pop_front();
            }
            prop_assert!(owed.is_empty());
            known.iter().for_each(|(ticket, _)| slots.acknowledge(*ticket));
            prop_assert!(slots.is_empty());
        }
    }
}
