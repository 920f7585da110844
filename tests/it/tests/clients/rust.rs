//! rusty-celery, which publishes and does not read results.

use std::process::Command;

use it::{Engine, Site, settings};
use serde_json::{Value, json};

use super::{MANY, Results, host, run};

#[track_caller]
fn check(engine: Engine) {
    let (Some(mut site), Some(program)) = (Site::open(engine), settings::required_path(settings::RUST_CLIENT)) else {
        return;
    };
    let _host = host(&mut site, Results::Redis);
    let mut ids = run(&site, "rusty-celery", &mut Command::new(program), "");
    let many = ids.as_object_mut().and_then(|ids| ids.remove("many")).expect("it has called many");
    // Somebody else has to look at what has become of them.
    let outcomes = site.client(&format!(
        r#"
def told(id):
    end = outcome(app.AsyncResult(id))
    return [end["value"]] if "value" in end else [end["type"], *end["args"]]

outcomes = {{name: told(id) for name, [id] in json.loads({ids:?}).items()}}
outcomes["many"] = sum(get(app.AsyncResult(id)) for id in json.loads({many:?}))
emit(outcomes)
"#,
        ids = ids.to_string(),
        many = many.to_string(),
    ));
    let expected: Value = json!({
        "keyword": [42],
        "large": [i64::MAX],
        "unicode": ["naïve ☃ 🦀"],
        "retried": [1],
        "failure": ["ValueError", "no luck"],
        "unknown": ["NotRegistered", "tasks.missing"],
        "countdown": [42],
        "expired": ["TaskRevokedError", "expired"],
        "limited": ["SoftTimeLimitExceeded"],
        "yaml": ["written ☃"],
        "many": MANY,
    });
    assert_eq!(outcomes, expected);
}

#[test]
fn rusty_celery_publishes_to_redis() {
    check(Engine::Redis);
}

#[test]
fn rusty_celery_publishes_to_rabbitmq() {
    check(Engine::RabbitMqRedis);
}
