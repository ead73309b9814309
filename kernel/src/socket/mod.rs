//! Sockets. There is one family so far: local sockets, `AF_UNIX`. Others answer `EAFNOSUPPORT`, as a kernel without them does.
//!
//! * [`calls`]: `socket(2)` and its relatives.  * [`unix`]: endpoints and how they meet.  * [`inbox`]: what waits to be received.
//! * [`address`]: names of endpoints.  * [`message`]: `struct msghdr`, ancillary data.  * [`options`]: `getsockopt(2)`.

pub mod address;
pub mod calls;
pub mod inbox;
pub mod message;
pub mod options;
pub mod unix;

#[cfg(test)]
mod tests;
