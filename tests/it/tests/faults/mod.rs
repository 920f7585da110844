//! Failures of servers, networks, disks and clocks, against real servers: what the host does about each.

mod alarm;
mod clock;
mod disk;
mod network;
mod redis;
mod requeue;
mod results;
mod stores;
mod waiting;
