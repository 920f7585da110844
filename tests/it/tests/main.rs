//! Black-box tests: the real binary, real brokers and the real Python Celery client, a module a topic.
//!
//! What one crate can show alone is tested there.

use it::{Engine, Site};

/// Makes each scenario a test on every engine.
macro_rules! on_every_engine {
    ($($scenario:ident)*) => {
        mod rabbitmq_redis {
            $(#[test] fn $scenario() { crate::on(it::Engine::RabbitMqRedis, super::$scenario) })*
        }
        mod rabbitmq_rpc {
            $(#[test] fn $scenario() { crate::on(it::Engine::RabbitMqRpc, super::$scenario) })*
        }
        mod redis {
            $(#[test] fn $scenario() { crate::on(it::Engine::Redis, super::$scenario) })*
        }
        mod embedded {
            $(#[test] fn $scenario() { crate::on(it::Engine::Embedded, super::$scenario) })*
        }
    };
}

/// Each scenario a test on every engine whose results anybody can ask for. Redis counts the members of a chord, and for
/// the embedded engine a task looks whether they are done.
macro_rules! on_every_store {
    ($($scenario:ident)*) => {
        mod rabbitmq_redis {
            $(#[test] fn $scenario() { crate::on(it::Engine::RabbitMqRedis, super::$scenario) })*
        }
        mod redis {
            $(#[test] fn $scenario() { crate::on(it::Engine::Redis, super::$scenario) })*
        }
        mod embedded {
            $(#[test] fn $scenario() { crate::on(it::Engine::Embedded, super::$scenario) })*
        }
    };
}

#[path = "../../../host/sandbox/tests/it/guest.rs"]
#[expect(dead_code, reason = "the sandbox's own tests use all of it")]
mod guest;

mod acks;
mod apart;
mod asynchronous;
mod authoring;
mod builtins;
mod calls;
mod canvas;
mod celery_cli;
mod chord_crash;
mod clients;
mod commands;
mod composing;
mod configuration;
mod connection;
mod contract;
mod control;
mod crash;
mod database;
mod dead;
mod demo;
mod differential;
mod django;
mod documents;
mod events;
mod examples;
mod failover;
mod failures;
mod faults;
mod fleet;
mod flower;
mod folders;
mod grants;
mod journal;
mod keyvalue;
mod limits;
mod matrix;
mod memcached;
mod messages;
mod metrics;
mod mixed;
mod network;
mod node;
mod plugin_run;
mod plugin_test;
mod polyglot;
mod progress;
mod qpid;
mod quarantine;
mod queues;
mod redis_ways;
mod reload;
mod remote;
mod results;
mod retries;
mod scratch;
mod sdks;
mod sharing;
mod shutdown;
mod signatures;
mod sqlalchemy;
mod sqs;
mod state;
mod stories;
mod structure;
mod stubs;
mod timing;
mod tls;
mod traces;
mod ts_producer;
mod typed;
mod values;
mod watch_build;
mod webhook;

/// Runs a scenario, unless this machine lacks what it needs.
fn on(engine: Engine, scenario: fn(&Site)) {
    if let Some(site) = Site::open(engine) {
        scenario(&site);
    }
}
