//! Failures of servers, networks, disks and clocks, against real servers: what the host does about each.

mod network;
