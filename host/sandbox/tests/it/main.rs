//! The sandbox against small guests, well-behaved and hostile.

mod calls;
mod guest;
mod hostile;
mod loading;
mod logs;
mod states;
mod world;
