//! One end of a line: two buffers, and the connection that it carries. Knows no engine but its names.
//!
//! Each connection has a number, the dest's count of them. It is over for an end that has said or heard
//! RESET, or has said and heard END; what is said of any other is dropped. So an end never waits for the
//! other's consent to be rid of a connection, and what was under way harms nobody.
//!
//! Invariants: `start <= end <= INPUT_BYTES`, `sent <= said <= OUTPUT_BYTES`. A connection begins only
//! when nothing waits to go out, and data leave [`RESERVE_BYTES`] free: what an end has to say of
//! a connection always has room.

use crate::frame::{CONTROL_BYTES_MAX, HEADER_BYTES, Header, Kind};
use core::ops::Range;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use seaprox::fail::FailReason;
use seaprox::side::SideKey;
use seaprox::sys::RawFd;

/// What was read from the line and not yet passed on.
const INPUT_BYTES: usize = 4096;
/// What is to be written to the line.
const OUTPUT_BYTES: usize = 4096;
/// OPEN or OPENED, END, and RESET.
const RESERVE_BYTES: usize = 2 * HEADER_BYTES + CONTROL_BYTES_MAX;
/// How many times the line is read in one go: then others have their turn.
const READS_MAX: usize = 16;

/// Which end of a line this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Connections come from it.
    Source,
    /// Connections go to it.
    Dest,
}

/// How far the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Of a source: the engine has not been told.
    Offered,
    /// Of a source: the engine has it. Of a dest: OPEN was said.
    Begun,
    /// Of a dest: it was answered, and the engine is to come for the answer.
    Answered,
    /// Of a dest: bytes flow.
    Flows,
}

/// How the far end's direction is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    End,
    Reset(FailReason),
}

/// The connection on the line.
#[derive(Debug)]
pub(crate) struct Connection {
    /// `None`: it was not given to the engine.
    pub(crate) side: Option<SideKey>,
    pub(crate) phase: Phase,
    pub(crate) has_ended: bool,
    pub(crate) heard: Option<Last>,
    /// Whether the engine is to be told when there is something to read.
    pub(crate) wants_bytes: bool,
    /// Whether it is to be told when there is room.
    pub(crate) wants_room: bool,
    /// Nobody reads what still comes.
    pub(crate) drops: bool,
}

impl Connection {
    /// The far end is gone. The engine is told, even if it has not asked for bytes.
    fn hear_reset(&mut self, role: Role, reason: FailReason) {
        self.heard = Some(Last::Reset(reason));
        self.wants_bytes = true;
        if self.phase == Phase::Begun && role == Role::Dest {
            self.phase = Phase::Answered;
        }
    }
}

/// One end of a line.
#[derive(Debug)]
pub struct Line {
    read: OwnedFd,
    write: OwnedFd,
    pub(crate) role: Role,
    pub(crate) is_registered: bool,
    /// Something may have to be told.
    pub(crate) is_stirred: bool,
    /// The line may have bytes.
    pub(crate) is_readable: bool,
    /// Why the line is no more.
    pub(crate) broken: Option<FailReason>,
    /// Of a source: whether connections are wanted, will be looked for once, or never will be.
    pub(crate) is_wanted: bool,
    pub(crate) is_looked_at: bool,
    pub(crate) has_ended: bool,
    pub(crate) connection: Option<Connection>,
    /// Of the connection, or the last one.
    number: u8,
    /// What is left of the DATA that is being read, and whether it is the connection's.
    body: u16,
    body_is_own: bool,
    start: usize,
    end: usize,
    input: [u8; INPUT_BYTES],
    sent: usize,
    said: usize,
    output: [u8; OUTPUT_BYTES],
}

impl Line {
    /// Bytes of user memory that a line takes.
    pub const MEMORY_BYTES: usize = size_of::<Line>();

    /// An end that reads from one descriptor and writes to the other: two ends of pipes, or one of a
    /// terminal in raw mode and its duplicate. The program must ignore SIGPIPE.
    ///
    /// # Errors
    /// They cannot be made non-blocking.
    pub fn new(role: Role, read: OwnedFd, write: OwnedFd) -> Result<Self, Errno> {
        rustix::io::ioctl_fionbio(&read, true)?;
        rustix::io::ioctl_fionbio(&write, true)?;
        Ok(Line {
            read,
            write,
            role,
            is_registered: false,
            is_stirred: true,
            is_readable: true,
            broken: None,
            is_wanted: false,
            is_looked_at: false,
            has_ended: false,
            connection: None,
            number: 0,
            body: 0,
            body_is_own: false,
            start: 0,
            end: 0,
            input: [0; INPUT_BYTES],
            sent: 0,
            said: 0,
            output: [0; OUTPUT_BYTES],
        })
    }

    /// Its descriptors.
    pub(crate) fn descriptors(&self) -> [RawFd; 2] {
        [self.read.as_raw_fd(), self.write.as_raw_fd()]
    }

    /// Whether a dest may begin a connection.
    pub(crate) fn is_vacant(&self) -> bool {
        self.connection.is_none() && self.is_flushed()
    }

    /// Whether nothing waits to go out.
    pub(crate) fn is_flushed(&self) -> bool {
        self.sent == self.said || self.broken.is_some()
    }

    /// The connection begins.
    pub(crate) fn begin(&mut self, phase: Phase, side: Option<SideKey>) {
        self.connection = Some(Connection {
            side,
            phase,
            has_ended: false,
            heard: None,
            wants_bytes: true,
            wants_room: false,
            drops: false,
        });
    }

    /// A dest asks for a connection.
    pub(crate) fn open(&mut self, side: SideKey) {
        self.number = self.number.wrapping_add(1);
        self.begin(Phase::Begun, Some(side));
        self.say(Kind::Open, &[]);
    }

    /// Nothing more is said to the far end.
    pub(crate) fn finish(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        let is_over = matches!(connection.heard, Some(Last::Reset(_)));
        if !core::mem::replace(&mut connection.has_ended, true) && !is_over {
            self.say(Kind::End, &[]);
        }
    }

    /// The engine is done with the connection: in order, or for this reason.
    pub(crate) fn leave(&mut self, reason: Option<FailReason>) {
        let heard = self.connection.as_ref().and_then(|connection| connection.heard);
        match (reason, heard) {
            (_, Some(Last::Reset(_))) => {}
            (None, _) => self.finish(),
            (Some(reason), _) => self.say(Kind::Reset, &[reason as u8]),
        }
        self.connection = None;
        self.body_is_own = false;
        self.is_stirred = true;
    }

    /// The line is no good any more: what it carries is reset.
    fn break_off(&mut self, reason: FailReason) {
        self.broken = Some(reason);
        self.is_stirred = true;
        if let Some(connection) = &mut self.connection {
            connection.hear_reset(self.role, reason);
        }
    }

    /// The kernel cannot watch the line.
    pub(crate) fn give_up(&mut self) {
        self.break_off(FailReason::OutOfDescriptors);
    }

    /// Says something of the connection.
    pub(crate) fn say(&mut self, kind: Kind, body: &[u8]) {
        let header = Header { kind, number: self.number, length: body.len() as u16 };
        let room = &mut self.output[self.said..];
        room[..HEADER_BYTES].copy_from_slice(&header.bytes());
        room[HEADER_BYTES..HEADER_BYTES + body.len()].copy_from_slice(body);
        self.said += HEADER_BYTES + body.len();
    }

    /// Where the connection's next bytes may be put; empty: nowhere now.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.said + HEADER_BYTES >= OUTPUT_BYTES - RESERVE_BYTES {
            self.write();
        }
        let start = self.said + HEADER_BYTES;
        &mut self.output[start.min(OUTPUT_BYTES - RESERVE_BYTES)..OUTPUT_BYTES - RESERVE_BYTES]
    }

    /// So many bytes were put there.
    pub(crate) fn commit(&mut self, bytes: usize) {
        let header = Header { kind: Kind::Data, number: self.number, length: bytes as u16 };
        self.output[self.said..self.said + HEADER_BYTES].copy_from_slice(&header.bytes());
        self.said += HEADER_BYTES + bytes;
    }

    /// What the connection has to read, as far as the line has brought it: a part of the input.
    pub(crate) fn lent(&self) -> Range<usize> {
        match self.body_is_own {
            true => self.start..self.end.min(self.start + usize::from(self.body)),
            false => self.start..self.start,
        }
    }

    /// The same, as bytes.
    pub(crate) fn input(&self, lent: Range<usize>) -> &[u8] {
        &self.input[lent]
    }

    /// So many bytes of the body have been passed on, or dropped.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        self.body -= bytes as u16;
    }

    /// Writes what waits, as far as the line takes it.
    pub(crate) fn write(&mut self) {
        while self.sent < self.said && self.broken.is_none() {
            match rustix::io::write(&self.write, &self.output[self.sent..self.said]) {
                Ok(bytes) => self.sent += bytes,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.break_off(FailReason::LinkDown),
            }
        }
        if self.sent > 0 {
            // What was said and not sent goes to the front, so that room comes back.
            self.output.copy_within(self.sent..self.said, 0);
            (self.sent, self.said) = (0, self.said - self.sent);
            self.is_stirred |=
                self.connection.as_ref().is_none_or(|connection| connection.wants_room);
        }
    }

    /// Reads what the line has, as far as there is room; whether that was something.
    fn read(&mut self) -> bool {
        if self.start > 0 {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if !self.is_readable || self.end == INPUT_BYTES || self.broken.is_some() {
            return false;
        }
        match rustix::io::read(&self.read, &mut self.input[self.end..]) {
            Ok(0) => self.break_off(FailReason::LinkDown),
            Ok(bytes) => {
                self.end += bytes;
                return true;
            }
            Err(Errno::AGAIN) => self.is_readable = false,
            Err(Errno::INTR) => return true,
            Err(_) => self.break_off(FailReason::LinkDown),
        }
        false
    }

    /// Hears what has come, up to bytes for the connection, or to what must wait. Between two reads
    /// that is no more than what the input holds.
    pub(crate) fn hear(&mut self) {
        let mut reads = 0;
        while self.broken.is_none() && !self.is_lending() && !self.has_to_wait() {
            if self.hear_one() {
                continue;
            }
            reads += 1;
            if reads > READS_MAX {
                self.is_stirred = true;
                return;
            }
            if !self.read() {
                return;
            }
        }
    }

    /// Whether the bytes that come next are for the engine.
    fn is_lending(&self) -> bool {
        !self.drops() && !self.lent().is_empty()
    }

    fn drops(&self) -> bool {
        self.connection.as_ref().is_none_or(|connection| connection.drops)
    }

    /// Hears a message, or drops bytes that nobody wants, if there are any.
    fn hear_one(&mut self) -> bool {
        if self.body == 0 {
            return self.hear_header();
        }
        let bytes = (self.end - self.start).min(usize::from(self.body));
        self.consume(bytes);
        bytes > 0
    }

    /// The header that comes next, if it is there, and the byte behind it; `None` as well if nobody
    /// says that.
    fn next_header(&self) -> Option<Option<(Header, u8)>> {
        let (header, rest) = self.input[self.start..self.end].split_first_chunk()?;
        match Header::read(*header) {
            Some(header) if header.kind == Kind::Reset => Some(Some((header, *rest.first()?))),
            header => Some(header.map(|header| (header, 0))),
        }
    }

    /// Whether what comes next is a connection, and this end is not ready for one.
    fn has_to_wait(&self) -> bool {
        let is_open = |header: Option<Option<(Header, u8)>>| {
            matches!(header, Some(Some((Header { kind: Kind::Open, .. }, _))))
        };
        let takes = self.role == Role::Source && self.body == 0;
        takes && !self.is_vacant() && is_open(self.next_header())
    }

    /// Hears how a message begins, if that is all there.
    fn hear_header(&mut self) -> bool {
        let Some(header) = self.next_header() else { return false };
        match header.filter(|(header, _)| self.is_sound(*header)) {
            Some((header, reason)) => {
                self.start += HEADER_BYTES + usize::from(header.kind == Kind::Reset);
                self.take(header, reason);
            }
            None => self.break_off(FailReason::Protocol),
        }
        true
    }

    /// Whether the far end may say this now.
    fn is_sound(&self, header: Header) -> bool {
        let ended = |connection: &Connection| connection.heard.is_some();
        match header.kind {
            Kind::Open => self.role == Role::Source,
            Kind::Opened => self.role == Role::Dest,
            Kind::Data | Kind::End if header.number == self.number => {
                !self.connection.as_ref().is_some_and(ended)
            }
            _ => true,
        }
    }

    fn take(&mut self, header: Header, reason: u8) {
        if header.kind == Kind::Open {
            self.number = header.number;
            return self.begin(Phase::Offered, None);
        }
        let is_own = header.number == self.number;
        if header.kind == Kind::Data {
            (self.body, self.body_is_own) = (header.length, is_own && self.connection.is_some());
            return;
        }
        let Some(connection) = self.connection.as_mut().filter(|_| is_own) else { return };
        match header.kind {
            Kind::Opened if connection.phase == Phase::Begun => connection.phase = Phase::Answered,
            Kind::End => connection.heard = Some(Last::End),
            Kind::Reset => {
                let reason = FailReason::from_number(reason).unwrap_or(FailReason::Other);
                connection.hear_reset(self.role, reason);
            }
            Kind::Open | Kind::Opened | Kind::Data => {}
        }
    }
}
