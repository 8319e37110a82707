//! How two seaprox know each other, and how nobody else reads, joins or breaks what they say: keys,
//! the handshake, and the ciphers of what follows. Knows no socket, no link and no clock: bytes, random
//! numbers and the time are arguments. Has had no review from outside.
//!
//! ```text
//! initiator                                          responder
//! Initiator::init      --INIT-->      Responder::hear_init   who is this, is it new?
//!                     <--COOKIE--                            under load: show that this address is yours
//!                     <--RESPONSE--   Asked::accept, Asked::refuse
//! Initiator::hear
//! Keyring::install                    Keyring::propose
//!                      --DATA-->      Keyring::open          and only now does it use the new keys
//! ```
//!
//! [`keyring`] is for carriers that lose and reorder, [`streams`] for those that do not. Whoever asked
//! for the link renews its keys by another handshake, while the old ones go on.
//!
//! Secrets are overwritten when they are dropped. What the compiler copies on its way, to the stack or
//! into registers, is not: core dumps are the program's to forbid.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod aead;
pub mod agreed;
pub mod initiator;
pub mod keyring;
pub mod keys;
mod mac;
pub mod message;
pub mod peers;
pub mod random;
pub mod replay;
pub mod responder;
pub mod streams;
mod suite;
mod trio;
