//! The sandbox against small guests, well-behaved and hostile.

mod async_guest;
mod asynchronous;
mod calls;
mod canvas;
mod events;
mod files;
#[cfg(unix)]
mod folders;
mod guest;
mod hostile;
mod http;
mod keyvalue;
mod loading;
mod logs;
mod net_hostile;
mod pitfalls;
mod publish;
mod reload;
mod reuse;
mod scratch;
mod server;
mod sockets;
mod states;
mod typed;
mod wasi_0_3;
mod world;
