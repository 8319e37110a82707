//! The bytes of messages: the only place that knows an offset. Layouts are in docs/protocol.md.
//!
//! Invariant: a message has exactly one form. Whatever [`parse`] takes, [`Message::emit`] gives back
//! byte for byte, but for the reserved bytes of HELLO and the contents of what is skipped.

use super::{
    ChannelId, DATA_HEADER_BYTES, Hello, Malformed, Message, NAME_BYTES_MAX, OFFSET_HEADER_BYTES,
    TEXT_BYTES_MAX, Target,
};
use core::net::{IpAddr, SocketAddr};

const PAD: u8 = 0x00;
pub(super) const DATA: u8 = 0x01;
const CREDIT: u8 = 0x03;
const OPEN: u8 = 0x04;
const OPENED: u8 = 0x05;
const RESET: u8 = 0x06;
const STOP: u8 = 0x07;
const PING: u8 = 0x08;
const CLOSE: u8 = 0x0b;
const GOAWAY: u8 = 0x0c;
const PONG: u8 = 0x0d;
const HELLO: u8 = 0x0e;
const DONE: u8 = 0x0f;
/// Kinds from here on say their length, and are skipped by who does not know them.
const SKIPPABLE: u8 = 0x80;
/// What [`Message::Skipped`] is written as.
const SKIPPED: u8 = 0xff;

// Flags of DATA.
const FIN: u8 = 1;
pub(super) const OFFSET: u8 = 2;
const STOPPED: u8 = 4;

const FAMILY_NONE: u8 = 0;
const FAMILY_SERVICE: u8 = 0;
const FAMILY_NAME: u8 = 1;
const FAMILY_V4: u8 = 4;
const FAMILY_V6: u8 = 6;

/// What is before the payload of a DATA message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHeader {
    bytes: [u8; OFFSET_HEADER_BYTES],
    length: u8,
}

impl DataHeader {
    /// [`DATA_HEADER_BYTES`], or [`OFFSET_HEADER_BYTES`].
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// The header of a DATA message without FIN, with a payload of so many bytes.
#[inline]
#[must_use]
pub fn data_header(channel: ChannelId, offset: Option<u32>, bytes: u16) -> DataHeader {
    header(channel, 0, offset, bytes)
}

fn header(channel: ChannelId, flags: u8, offset: Option<u32>, bytes: u16) -> DataHeader {
    let [b0, b1] = bytes.to_le_bytes();
    let [c0, c1, c2, c3] = channel.0.to_le_bytes();
    let [o0, o1, o2, o3] = offset.unwrap_or(0).to_le_bytes();
    let (flags, length) = match offset {
        None => (flags, DATA_HEADER_BYTES),
        Some(_) => (flags | OFFSET, OFFSET_HEADER_BYTES),
    };
    let bytes = [DATA, flags, b0, b1, c0, c1, c2, c3, o0, o1, o2, o3];
    DataHeader { bytes, length: length as u8 }
}

/// The first message of the rest of a packet, and its length in bytes, which is never 0. O(1): what
/// is inside is not looked at.
///
/// # Errors
/// The bytes are no whole message, or one of an unknown kind below 0x80.
#[inline]
pub fn parse(packet: &[u8]) -> Result<(Message<'_>, usize), Malformed> {
    match packet.split_first_chunk::<DATA_HEADER_BYTES>() {
        Some((&[DATA, flags, b0, b1, c0, c1, c2, c3], rest)) => {
            let length = u16::from_le_bytes([b0, b1]);
            let channel = ChannelId(u32::from_le_bytes([c0, c1, c2, c3]));
            parse_data(channel, flags, length.into(), rest)
        }
        _ => parse_control(packet),
    }
}

#[inline]
fn parse_data(
    channel: ChannelId,
    flags: u8,
    length: usize,
    rest: &[u8],
) -> Result<(Message<'_>, usize), Malformed> {
    const WHOLE: u8 = FIN | OFFSET | STOPPED;
    let mut rest = Reader(rest);
    let (offset, header) = match flags & OFFSET {
        0 => (None, DATA_HEADER_BYTES),
        _ => (Some(rest.u32()?), OFFSET_HEADER_BYTES),
    };
    let (fin, stopped) = match flags & !OFFSET {
        0 => (false, false),
        FIN => (true, false),
        _ if flags == WHOLE => (true, true),
        _ => return Err(Malformed),
    };
    let bytes = rest.bytes(length)?;
    Ok((Message::Data { channel, fin, stopped, offset, bytes }, header + length))
}

/// Anything but DATA.
fn parse_control(packet: &[u8]) -> Result<(Message<'_>, usize), Malformed> {
    let mut rest = Reader(packet);
    let kind = rest.byte()?;
    if kind == PAD {
        return Ok((Message::Pad, 1));
    }
    let [one, low, high] = rest.take()?;
    let two = u16::from_le_bytes([low, high]);
    let message = match kind {
        CREDIT | OPENED | DONE | PING | PONG | GOAWAY if one != 0 || two != 0 => Err(Malformed),
        RESET | STOP if one != 0 => Err(Malformed),
        CREDIT => Ok(Message::Credit { channel: rest.channel()?, max_offset: rest.u32()? }),
        OPEN => parse_open(one, two, &mut rest),
        OPENED => Ok(Message::Opened { channel: rest.channel()?, credit: rest.u32()? }),
        RESET => {
            let channel = rest.channel()?;
            Ok(Message::Reset { channel, reason: two, final_offset: rest.u32()? })
        }
        STOP => Ok(Message::Stop { channel: rest.channel()?, reason: two }),
        DONE => Ok(Message::Done { channel: rest.channel()? }),
        PING => Ok(Message::Ping(u64::from_le_bytes(rest.take()?))),
        PONG => Ok(Message::Pong(u64::from_le_bytes(rest.take()?))),
        CLOSE if usize::from(one) <= TEXT_BYTES_MAX => {
            Ok(Message::Close { reason: two, text: rest.bytes(one.into())? })
        }
        GOAWAY => Ok(Message::Goaway { last: rest.channel()? }),
        HELLO => parse_hello(one, two.to_le_bytes(), &mut rest),
        SKIPPABLE.. => rest.bytes(two.into()).map(|_| Message::Skipped),
        _ => Err(Malformed),
    }?;
    Ok((message, packet.len() - rest.0.len()))
}

fn parse_hello<'m>(
    version_min: u8,
    [version_max, flags]: [u8; 2],
    rest: &mut Reader<'m>,
) -> Result<Message<'m>, Malformed> {
    // What is reserved may mean something to a peer of a later version, and this is how to find out
    // that it is one.
    let channels_max = rest.u16()?;
    let _reserved = rest.u16()?;
    let initial_credit = rest.u32()?;
    let credit_max = rest.u32()?;
    let idle_seconds = rest.u16()?;
    let _reserved = rest.u16()?;
    Ok(Message::Hello(Hello {
        version_min,
        version_max,
        flags,
        channels_max,
        initial_credit,
        credit_max,
        idle_seconds,
    }))
}

fn parse_open<'m>(family: u8, port: u16, rest: &mut Reader<'m>) -> Result<Message<'m>, Malformed> {
    let channel = rest.channel()?;
    let credit = rest.u32()?;
    let target = match family {
        FAMILY_SERVICE if port == 0 => Target::Service(rest.name()?),
        FAMILY_NAME => Target::Name(rest.name()?, port),
        FAMILY_V4 => Target::V4(rest.take()?, port),
        FAMILY_V6 => Target::V6(rest.take()?, port),
        _ => return Err(Malformed),
    };
    let client = match rest.byte()? {
        FAMILY_NONE => None,
        family => {
            let port = rest.u16()?;
            let ip: IpAddr = match family {
                FAMILY_V4 => rest.take::<4>()?.into(),
                FAMILY_V6 => rest.take::<16>()?.into(),
                _ => return Err(Malformed),
            };
            Some(SocketAddr::new(ip, port))
        }
    };
    Ok(Message::Open { channel, credit, target, client })
}

impl Message<'_> {
    /// Its length in bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        match self {
            Message::Pad => 1,
            Message::Skipped => 4,
            Message::Stop { .. } | Message::Done { .. } | Message::Goaway { .. } => 8,
            Message::Credit { .. }
            | Message::Opened { .. }
            | Message::Reset { .. }
            | Message::Ping(_)
            | Message::Pong(_) => 12,
            Message::Hello(_) => 20,
            Message::Data { offset: None, bytes, .. } => DATA_HEADER_BYTES + bytes.len(),
            Message::Data { offset: Some(_), bytes, .. } => OFFSET_HEADER_BYTES + bytes.len(),
            Message::Close { text, .. } => 4 + text.len(),
            Message::Open { target, client, .. } => {
                let target = match target {
                    Target::Service(name) | Target::Name(name, _) => 1 + name.len(),
                    Target::V4(..) => 4,
                    Target::V6(..) => 16,
                };
                let client = match client {
                    None => 1,
                    Some(SocketAddr::V4(_)) => 7,
                    Some(SocketAddr::V6(_)) => 19,
                };
                12 + target + client
            }
        }
    }

    /// Whether its variable part is short enough to be said, and what depends on another is with it.
    fn is_sayable(&self) -> bool {
        match self {
            Message::Data { fin, stopped, offset, bytes, .. } => {
                let is_stop = !stopped || *fin && offset.is_some();
                is_stop && bytes.len() <= usize::from(u16::MAX)
            }
            Message::Close { text, .. } => text.len() <= TEXT_BYTES_MAX,
            Message::Open { target: Target::Service(name) | Target::Name(name, _), .. } => {
                name.len() <= NAME_BYTES_MAX
            }
            _ => true,
        }
    }

    /// Writes it at the start of `out`, and gives its length in bytes. `None`: there is no room, or
    /// a part of it is not as it may be; then nothing was written.
    pub fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let length = self.length();
        if !self.is_sayable() {
            return None;
        }
        let mut out = Writer(out.get_mut(..length)?);
        self.write(&mut out)?;
        debug_assert!(out.0.is_empty(), "{self:?} is not {length} bytes");
        Some(length)
    }

    fn write(&self, out: &mut Writer<'_>) -> Option<()> {
        match *self {
            Message::Pad => out.put(&[PAD]),
            Message::Hello(hello) => write_hello(&hello, out),
            Message::Data { channel, fin, stopped, offset, bytes } => {
                let stopped = if stopped { STOPPED } else { 0 };
                let flags = u8::from(fin) | stopped;
                out.put(header(channel, flags, offset, bytes.len() as u16).as_bytes())?;
                out.put(bytes)
            }
            Message::Credit { channel, max_offset } => {
                out.head(CREDIT, 0, 0)?;
                out.channel(channel)?;
                out.u32(max_offset)
            }
            Message::Open { channel, credit, target, client } => {
                let (family, port) = match target {
                    Target::Service(_) => (FAMILY_SERVICE, 0),
                    Target::Name(_, port) => (FAMILY_NAME, port),
                    Target::V4(_, port) => (FAMILY_V4, port),
                    Target::V6(_, port) => (FAMILY_V6, port),
                };
                out.head(OPEN, family, port)?;
                out.channel(channel)?;
                out.u32(credit)?;
                write_target(target, out)?;
                write_client(client, out)
            }
            Message::Opened { channel, credit } => {
                out.head(OPENED, 0, 0)?;
                out.channel(channel)?;
                out.u32(credit)
            }
            Message::Reset { channel, reason, final_offset } => {
                out.head(RESET, 0, reason)?;
                out.channel(channel)?;
                out.u32(final_offset)
            }
            Message::Stop { channel, reason } => {
                out.head(STOP, 0, reason)?;
                out.channel(channel)
            }
            Message::Done { channel } => {
                out.head(DONE, 0, 0)?;
                out.channel(channel)
            }
            Message::Ping(value) => {
                out.head(PING, 0, 0)?;
                out.put(&value.to_le_bytes())
            }
            Message::Pong(value) => {
                out.head(PONG, 0, 0)?;
                out.put(&value.to_le_bytes())
            }
            Message::Close { reason, text } => {
                out.head(CLOSE, text.len() as u8, reason)?;
                out.put(text)
            }
            Message::Goaway { last } => {
                out.head(GOAWAY, 0, 0)?;
                out.channel(last)
            }
            Message::Skipped => out.head(SKIPPED, 0, 0),
        }
    }
}

fn write_hello(hello: &Hello, out: &mut Writer<'_>) -> Option<()> {
    out.put(&[HELLO, hello.version_min, hello.version_max, hello.flags])?;
    out.put(&hello.channels_max.to_le_bytes())?;
    out.put(&[0; 2])?;
    out.u32(hello.initial_credit)?;
    out.u32(hello.credit_max)?;
    out.put(&hello.idle_seconds.to_le_bytes())?;
    out.put(&[0; 2])
}

fn write_target(target: Target<'_>, out: &mut Writer<'_>) -> Option<()> {
    match target {
        Target::Service(name) | Target::Name(name, _) => {
            out.put(&[name.len() as u8])?;
            out.put(name)
        }
        Target::V4(ip, _) => out.put(&ip),
        Target::V6(ip, _) => out.put(&ip),
    }
}

fn write_client(client: Option<SocketAddr>, out: &mut Writer<'_>) -> Option<()> {
    let Some(client) = client else { return out.put(&[FAMILY_NONE]) };
    let [p0, p1] = client.port().to_le_bytes();
    match client.ip() {
        IpAddr::V4(ip) => {
            out.put(&[FAMILY_V4, p0, p1])?;
            out.put(&ip.octets())
        }
        IpAddr::V6(ip) => {
            out.put(&[FAMILY_V6, p0, p1])?;
            out.put(&ip.octets())
        }
    }
}

/// What is left to be parsed.
struct Reader<'m>(&'m [u8]);

impl<'m> Reader<'m> {
    #[inline]
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    #[inline]
    fn bytes(&mut self, length: usize) -> Result<&'m [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn name(&mut self) -> Result<&'m [u8], Malformed> {
        let length = self.byte()?;
        self.bytes(length.into())
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.take().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_le_bytes)
    }

    fn channel(&mut self) -> Result<ChannelId, Malformed> {
        self.u32().map(ChannelId)
    }
}

/// What is left to be written to.
struct Writer<'o>(&'o mut [u8]);

impl Writer<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let (out, rest) = core::mem::take(&mut self.0).split_at_mut_checked(bytes.len())?;
        out.copy_from_slice(bytes);
        self.0 = rest;
        Some(())
    }

    fn head(&mut self, kind: u8, one: u8, two: u16) -> Option<()> {
        let [low, high] = two.to_le_bytes();
        self.put(&[kind, one, low, high])
    }

    fn u32(&mut self, number: u32) -> Option<()> {
        self.put(&number.to_le_bytes())
    }

    fn channel(&mut self, channel: ChannelId) -> Option<()> {
        self.u32(channel.0)
    }
}
