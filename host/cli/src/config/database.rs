//! How results are kept in a database: Celery's settings `database_*`.
//!
//! Where the database is says `result.backend`, and how to reach it the options behind the `?` there.

use store::{DatabaseOptions, TableNames};

use crate::config::error::{ConfigError, ConfigErrors};
use crate::config::resolve::Resolved;
use crate::config::value::Value;

const ENGINE: &str = "database.engine_options";
const NAMES: &str = "database.table_names";
const SCHEMAS: &str = "database.table_schemas";

/// What the settings say.
pub(crate) fn options(resolved: &Resolved) -> Result<DatabaseOptions, ConfigErrors> {
    let mut options = DatabaseOptions::default();
    for (name, value) in pairs(resolved, ENGINE) {
        match options.pool.set(name, value) {
            Ok(true) => {}
            Ok(false) => return refuse(resolved, ENGINE, &engine_problem(name)),
            Err(problem) => return refuse(resolved, ENGINE, &problem),
        }
    }
    let TableNames { task, group, task_schema, group_schema } = &mut options.names;
    for (key, [for_task, for_group]) in [(NAMES, [task, group]), (SCHEMAS, [task_schema, group_schema])] {
        for (name, value) in pairs(resolved, key) {
            let place = match name {
                "task" => &mut *for_task,
                "group" => &mut *for_group,
                _ => return refuse(resolved, key, &format!("there is no table `{name}`; there are: task, group")),
            };
            *place = Some(value.to_owned()).filter(|value| !value.is_empty());
        }
    }
    options.create_at_setup = is_true(resolved, "database.create_tables_at_setup");
    options.pool.short_lived = is_true(resolved, "database.short_lived_sessions");
    Ok(options)
}

fn engine_problem(name: &str) -> String {
    const KNOWN: &str = "there are: pool_size, max_overflow, pool_timeout, pool_recycle";
    match name {
        "pool_pre_ping" => format!("pool_pre_ping: a connection that was lost is always replaced; {KNOWN}"),
        _ => format!("there is no option `{name}`; {KNOWN}"),
    }
}

fn refuse<T>(resolved: &Resolved, key: &'static str, problem: &str) -> Result<T, ConfigErrors> {
    Err(ConfigErrors::new(vec![ConfigError::value(resolved.origin(key), key, problem)]))
}

fn pairs<'a>(resolved: &'a Resolved, key: &'static str) -> Vec<(&'a str, &'a str)> {
    match resolved.value(key) {
        Value::Texts(pairs) => pairs.iter().filter_map(|pair| pair.split_once('=')).collect(),
        _ => Vec::new(),
    }
}

fn is_true(resolved: &Resolved, key: &'static str) -> bool {
    *resolved.value(key) == Value::Bool(true)
}
