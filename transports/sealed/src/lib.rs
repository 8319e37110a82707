//! Links that nobody else can read, join or break, over carriers that keep order (SOCK_SEQPACKET, SCTP):
//! two ends agree on keys first, then every packet is sealed. Knows neither sockets nor channels; what
//! keys are and how they are agreed on `seaprox-noise` knows.
//!
//! ```text
//! initiator                                        acceptor
//! Sealed::asking                                   Sealed::asked
//! Connect::finish: greet --INIT, stream 0-->       Accept: greet      a guest: holds no link
//!                      <--RESPONSE, stream 0--                        a link is set aside
//!                        --a packet of nothing-->                     it is there now: a link begins
//!                       <--packets, sealed-->
//! ```
//!
//! A [`Sealed`] is a [`Carrier`](seaprox_proto::carrier::Carrier) around another. Its link does not know that
//! there are keys; nor that whoever asked for it renews them every two minutes.
#![no_std]
#![forbid(unsafe_code)]

mod carrier;
mod greeting;
mod keeper;
mod outbox;
mod renewal;
mod system;

pub use carrier::Sealed;
pub use keeper::{Keeper, Kind, Memory, Outside, Seat};
pub use system::System;
