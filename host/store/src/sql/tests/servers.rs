//! The store on PostgreSQL and on MySQL or MariaDB: their tables, their locks, and what real Celery reads and
//! writes there.

use std::collections::BTreeSet;
use std::process::Command;

use taskhost_core::record::{CallRecord, ResultValue};
use taskhost_core::{Exception, State};
use tokio_postgres::SimpleQueryMessage;

use super::super::driver::Driver;
use super::*;
use crate::conformance::{self, fresh, record};
use crate::target::Target;

const SERVERS: [&str; 3] = ["TASKHOST_TEST_POSTGRESQL", "TASKHOST_TEST_PGBOUNCER", "TASKHOST_TEST_MARIADB"];

/// A real server.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) url: String,
}

/// Those that there are; says so if there are none.
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
pub(super) fn servers() -> Vec<Server> {
    let mut servers = Vec::new();
    for name in SERVERS {
        match std::env::var(name).ok().filter(|url| !url.is_empty()) {
            Some(url) => servers.push(Server { url }),
            None => println!("skipped: {name} is not set"),
        }
    }
    servers
}

impl Server {
    pub(super) fn is_postgresql(&self) -> bool {
        self.url.contains("postgresql")
    }

    fn store_with(&self, options: &DatabaseOptions) -> SqlStore {
        let url = RedactedUrl::new(&self.url);
        match Target::parse(&self.url) {
            Ok(Target::Postgresql(target)) => SqlStore::postgresql(url, *target, options, Format::default()),
            Ok(Target::Mysql(target)) => SqlStore::mysql(url, *target, options, Format::default()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn store(&self) -> SqlStore {
        self.store_with(&DatabaseOptions::default())
    }

    /// Statements on a connection of their own, and the last one's rows as text.
    pub(super) async fn sql(&self, statements: &str) -> Vec<Vec<Option<String>>> {
        match Target::parse(&self.url) {
            Ok(Target::Postgresql(target)) => {
                let connection = target.connect().await.unwrap();
                let said = connection.client.simple_query(statements).await.unwrap();
                let rows = said.into_iter().filter_map(|message| match message {
                    SimpleQueryMessage::Row(row) => {
                        Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
                    }
                    _ => None,
                });
                rows.collect()
            }
            Ok(Target::Mysql(target)) => {
                use mysql_async::prelude::Queryable;
                let pool = dial::mysql::Pool::new(*target, PoolOptions::default()).unwrap();
                let mut lease = pool.lease().await.unwrap();
                let mut rows = Vec::new();
                for statement in statements.split("; ") {
                    let found: Vec<mysql_async::Row> = lease.connection().query(statement).await.unwrap();
                    rows = found.into_iter().map(mysql_async::Row::unwrap).collect();
                }
                let text = |value| {
                    let bytes = mysql_async::from_value::<Option<Vec<u8>>>(value);
                    bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                };
                rows.into_iter().map(|row: Vec<mysql_async::Value>| row.into_iter().map(text).collect()).collect()
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Tables that no other test has: of other names in MySQL, and in a schema of their own in PostgreSQL, where
/// Celery gives all of them indexes of the same name.
struct Own {
    options: DatabaseOptions,
    task: String,
    group: String,
    /// Where both are, as `information_schema` has it.
    schema: Option<String>,
    /// What says the same to Celery.
    settings: String,
}

async fn own_tables(server: &Server, name: &str) -> Own {
    let name = fresh(name).to_string().replace('-', "_");
    let (names, settings);
    if server.is_postgresql() {
        server.sql(&format!("CREATE SCHEMA {name}")).await;
        names =
            TableNames { task_schema: Some(name.clone()), group_schema: Some(name.clone()), ..TableNames::default() };
        settings = format!("database_table_schemas={{'task': '{name}', 'group': '{name}'}}, result_extended=True");
        Own {
            options: DatabaseOptions { names, ..DatabaseOptions::default() },
            task: "celery_taskmeta".to_owned(),
            group: "celery_tasksetmeta".to_owned(),
            schema: Some(name),
            settings,
        }
    } else {
        let (task, group) = (format!("{name}_t"), format!("{name}_g"));
        names = TableNames { task: Some(task.clone()), group: Some(group.clone()), ..TableNames::default() };
        settings = format!("database_table_names={{'task': '{task}', 'group': '{group}'}}, result_extended=True");
        Own { options: DatabaseOptions { names, ..DatabaseOptions::default() }, task, group, schema: None, settings }
    }
}

impl Own {
    /// The name of the tasks' table in statements.
    fn name(&self) -> String {
        self.schema.iter().map(|schema| format!("{schema}.")).chain([self.task.clone()]).collect()
    }
}

async fn put(store: &SqlStore, records: &[ResultRecord]) {
    for answer in store.put(records).await {
        answer.unwrap();
    }
}

fn why(error: &StoreError) -> String {
    std::error::Error::source(error).unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_conforms_on_servers() {
    for server in servers() {
        // Its results are of some day in November, and would be deleted with what expired for somebody else.
        let Own { options, .. } = own_tables(&server, "conforms").await;
        conformance::run(Arc::new(server.store_with(&options))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_start_together_make_the_tables_once() {
    for server in servers() {
        let Own { options, .. } = own_tables(&server, "together").await;
        let starts: Vec<_> = (0..6)
            .map(|_| {
                let store = server.store_with(&options);
                tokio::spawn(async move {
                    store.ping().await.unwrap();
                    let id = fresh("together");
                    put(&store, &[record(&id, State::Success, "1")]).await;
                    assert!(store.get(&id).await.unwrap().is_some());
                })
            })
            .collect();
        for start in starts {
            start.await.unwrap();
        }
    }
}

/// Names, types and whether they may be null, as the server tells of a table, and its indexes.
async fn shape(server: &Server, own: &Own, table: &str) -> BTreeSet<Vec<Option<String>>> {
    let schema = own.schema.iter().map(|schema| format!(" AND table_schema = '{schema}'")).collect::<String>();
    let extra = if server.is_postgresql() { "column_default" } else { "extra" };
    let columns = format!(
        "SELECT column_name, data_type, is_nullable, character_maximum_length, {extra} \
         FROM information_schema.columns WHERE table_name = '{table}'{schema}"
    );
    let indexes = match &own.schema {
        Some(schema) => format!(
            "SELECT replace(pg_get_indexdef(indexrelid), '{schema}.', '') FROM pg_index \
             WHERE indrelid = '{schema}.{table}'::regclass"
        ),
        None => format!(
            "SELECT column_name, concat(non_unique, '') FROM information_schema.statistics \
             WHERE table_name = '{table}'"
        ),
    };
    let sequences = match &own.schema {
        Some(schema) => format!(
            "SELECT sequence_name, data_type, start_value, increment FROM information_schema.sequences \
             WHERE sequence_schema = '{schema}'"
        ),
        None => "SELECT 1".to_owned(),
    };
    let mut shape: BTreeSet<_> = server.sql(&columns).await.into_iter().collect();
    shape.extend(server.sql(&indexes).await);
    shape.extend(server.sql(&sequences).await);
    shape
}

/// What a Python program prints that has an `app` with this backend.
async fn python(url: &str, settings: &str, program: &str, arguments: &[&str]) -> Option<String> {
    const PYTHON: &str = "TASKHOST_TEST_PYTHON";
    let python = std::env::var_os(PYTHON).filter(|python| !python.is_empty())?;
    let preamble = format!(
        "import sys, json\nfrom celery import Celery, states\nfrom celery.result import GroupResult\n\
         app = Celery(backend={url:?})\napp.conf.update({settings})\n"
    );
    let mut command = Command::new(python);
    command.arg("-c").arg(preamble + program).args(arguments);
    let said = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let errors = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.success(), "{errors}");
    Some(String::from_utf8_lossy(&said.stdout).into_owned())
}

#[tokio::test]
async fn tables_are_what_sqlalchemy_would_make() {
    for server in servers() {
        let (ours, theirs) = (own_tables(&server, "ours").await, own_tables(&server, "theirs").await);
        server.store_with(&ours.options).ping().await.unwrap();
        let program = "app.backend.task_result_exists('x')";
        let Some(_) = python(&server.url, &theirs.settings, program, &[]).await else { return };
        for (our_name, their_name) in [(&ours.task, &theirs.task), (&ours.group, &theirs.group)] {
            let mut ours = shape(&server, &ours, our_name).await;
            let theirs = shape(&server, &theirs, their_name).await;
            if !server.is_postgresql() {
                // There we make them larger.
                let same = |text: Option<String>| match text.as_deref() {
                    Some("longblob") => Some("blob".to_owned()),
                    Some("longtext") => Some("text".to_owned()),
                    Some("4294967295") => Some("65535".to_owned()),
                    _ => text,
                };
                ours = ours.into_iter().map(|row| row.into_iter().map(same).collect()).collect();
            }
            assert_eq!(ours, theirs);
        }
    }
}

#[tokio::test]
async fn columns_that_an_older_celery_did_not_make_are_added_on_servers() {
    for server in servers() {
        let own = own_tables(&server, "older").await;
        let (options, task) = (own.options.clone(), own.name());
        let (number, blob, pickle) = if server.is_postgresql() {
            ("INTEGER NOT NULL", "BYTEA", "'\\x80049500'::bytea")
        } else {
            ("INTEGER NOT NULL AUTO_INCREMENT", "BLOB", "x'80049500'")
        };
        server
            .sql(&format!(
                "CREATE TABLE {task} (id {number}, task_id VARCHAR(155), status VARCHAR(50), result {blob}, \
                 date_done TIMESTAMP NULL, traceback TEXT, PRIMARY KEY (id), UNIQUE (task_id)); \
                 INSERT INTO {task} (id, task_id, status, result) VALUES (0, 'old', 'SUCCESS', {pickle})"
            ))
            .await;
        let store = server.store_with(&options);
        let id = fresh("new");
        let call = CallRecord { queue: Some("q".into()), retries: Some(2), ..CallRecord::default() };
        let children = Json::parse(r#"[[["c", null], null]]"#).unwrap();
        let new = ResultRecord { children, call: Some(Arc::new(call)), ..record(&id, State::Success, "1") };
        put(&store, &[new]).await;
        let stored = store.get(&id).await.unwrap().unwrap();
        assert_eq!(stored.call.last().unwrap(), &("queue", Json::text("q")));
        // Nothing is executed that a row says.
        let error = store.get(&TaskId::parse("old").unwrap()).await.unwrap_err();
        assert!(why(&error).contains("pickle") && !error.is_transient(), "{error:?}");
    }
}

#[tokio::test]
async fn python_reads_every_kind_of_result() {
    for server in servers() {
        let Own { options, settings, .. } = own_tables(&server, "reads").await;
        let store = server.store_with(&options);
        let id = |name: &str| TaskId::parse(name).unwrap();
        let failed = |name: &str, state: State, kind: &str, arguments: &str| ResultRecord {
            result: ResultValue::Exception(Exception {
                kind: kind.into(),
                module: Some("builtins".into()),
                arguments: Json::parse(arguments.to_owned()).unwrap(),
            }),
            traceback: Some("Traceback \u{1F980} größe".into()),
            ..record(&id(name), state, "null")
        };
        let stamps =
            Some((Json::parse(r#"["monitor"]"#).unwrap(), vec![("monitor".to_owned(), Json::parse("[7]").unwrap())]));
        let call = CallRecord {
            name: Some("größe.\u{1F980}".into()),
            args: Some(Json::parse("[1, \"ä\"]").unwrap()),
            kwargs: Some(Json::parse("{\"k\": null}").unwrap()),
            worker: Some("me@box".into()),
            retries: Some(3),
            queue: Some("q".into()),
            stamps,
        };
        let children =
            Json::parse(r#"[[["c", ["parent", null]], null], [["g", null], [[["m", null], null]]]]"#).unwrap();
        put(
            &store,
            &[
                record(
                    &id("odd"),
                    State::Success,
                    "[NaN, -Infinity, 1e400, \"\\u0000 \\ud83e\\udd80 \u{1F980} \\\\\", {\"a\": [null]}]",
                ),
                record(&id("big"), State::Success, &format!("\"{}\"", "ü".repeat(300_000))),
                failed("failed", State::Failure, "KeyError", r#"["x", 1]"#),
                failed("again", State::Retry, "ValueError", r#"["later"]"#),
                failed("revoked", State::Revoked, "RuntimeError", r#"["terminated"]"#),
                record(&id("own"), State::Custom("PROGRESS".into()), "{\"done\": 3}"),
                record(&id("started"), State::Started, "{\"pid\": 7}"),
                ResultRecord { children, call: Some(Arc::new(call)), ..record(&id("parent"), State::Success, "1") },
            ],
        )
        .await;
        store.save_group("ours", &Json::parse(r#"[["ours", null], [[["a", null], null]]]"#).unwrap()).await.unwrap();
        let program = r"
r = app.AsyncResult
print(ascii(r('odd').get()), len(r('big').get()), r('odd').date_done)
for name in ('failed', 'again', 'revoked'):
    print(r(name).state, repr(r(name).result), ascii(r(name).traceback))
print(r('own').state, r('own').info, r('started').state, r('started').info, r('started').date_done, r('none').state)
p = r('parent')
print(ascii(p.name), p.args, p.kwargs, p.worker, p.retries, p.queue)
print([child.as_tuple() for child in p.children], p._get_task_meta().get('monitor'))
print(GroupResult.restore('ours', app=app).as_tuple())
";
        let program = format!("# coding: utf-8\n{program}");
        let Some(said) = python(&server.url, &settings, &program, &[]).await else { return };
        let expected = concat!(
            r"[nan, -inf, inf, '\x00 \U0001f980 \U0001f980 \\', {'a': [None]}] 300000 2026-11-22 10:32:08.348566",
            "\n",
            r"FAILURE KeyError('x', 1) 'Traceback \U0001f980 gr\xf6\xdfe'",
            "\n",
            r"RETRY ValueError('later') 'Traceback \U0001f980 gr\xf6\xdfe'",
            "\n",
            r"REVOKED RuntimeError('terminated') 'Traceback \U0001f980 gr\xf6\xdfe'",
            "\n",
            "PROGRESS {'done': 3} STARTED {'pid': 7} None PENDING\n",
            r"'gr\xf6\xdfe.\U0001f980' [1, 'ä'] {'k': None} me@box 3 q",
            "\n",
            "[(('c', (('parent', None), None)), None), (('g', None), [(('m', None), None)])] [7]\n",
            "(('ours', None), [(('a', None), None)])\n",
        );
        assert_eq!(said, expected);
    }
}

#[tokio::test]
async fn what_python_writes_is_read() {
    for server in servers() {
        let Own { options, settings, .. } = own_tables(&server, "writes").await;
        let program = r"
b = app.backend
class Context(dict):
    __getattr__ = dict.get
request = Context(task='t.name', args=(1, 'x'), kwargs={'k': [None]}, hostname='me@box', retries=2,
                  delivery_info={'routing_key': 'q'}, children=[app.AsyncResult('c')], stamped_headers=['m'], stamps={'m': [5]})
b.store_result('done', {'a': [1.5, None, 'ü']}, states.SUCCESS, request=request)
try:
    raise KeyError('x', 1)
except KeyError as error:
    b.mark_as_failure('failed', error, traceback='Traceback: here')
b.store_result('own', {'done': 3}, 'PROGRESS')
GroupResult('theirs', [app.AsyncResult('b')]).save(backend=b)
print(app.AsyncResult('done').get())
";
        let Some(said) = python(&server.url, &settings, program, &[]).await else { return };
        assert_eq!(said, "{'a': [1.5, None, 'ü']}\n");
        let store = server.store_with(&options);
        let get = async |name: &str| store.get(&TaskId::parse(name).unwrap()).await.unwrap().unwrap();
        let done = get("done").await;
        assert_eq!((done.state, done.result.as_str()), (State::Success, r#"{"a": [1.5, null, "\u00fc"]}"#));
        assert!(Timestamp::parse(&done.date_done.unwrap()).is_ok());
        assert_eq!(done.children.as_str(), r#"[[["c", null], null]]"#);
        let call: Vec<String> = done.call.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let expected = r#"name="t.name" args=[1, "x"] kwargs={"k": [null]} worker="me@box" retries=2 queue="q""#;
        assert_eq!(call.join(" "), expected);
        let failed = get("failed").await;
        assert_eq!((failed.state, failed.traceback.as_deref()), (State::Failure, Some("Traceback: here")));
        assert!(failed.result.as_str().contains(r#""exc_type": "KeyError""#), "{}", failed.result);
        assert_eq!(get("own").await.state, State::Custom("PROGRESS".into()));
        let theirs = store.group("theirs").await.unwrap().unwrap();
        assert_eq!(theirs.as_str(), r#"[["theirs", null], [[["b", null], null]]]"#);
        // What we write over it keeps the stamps, and a SUCCESS of theirs stays.
        put(&store, &[record(&TaskId::parse("done").unwrap(), State::Failure, "2")]).await;
        assert_eq!(get("done").await.state, State::Success);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_the_same_tasks_repeat_what_a_deadlock_undid() {
    for server in servers() {
        let Own { options, .. } = own_tables(&server, "dead").await;
        server.store_with(&options).ping().await.unwrap();
        let undone = server.deadlocks().await;
        let ids: Vec<TaskId> = (0..40).map(|_| fresh("dead")).collect();
        // Two, and in opposite orders: what is never the case behind a store, which sorts its rows.
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let (server, options, mut ids) = (server.clone(), options.clone(), ids.clone());
                tokio::spawn(async move {
                    let driver = server.driver(&options);
                    if writer == 0 {
                        ids.reverse();
                    }
                    for round in 0..40 {
                        let rows = ids.iter().map(|id| Row {
                            values: vec![
                                Value::Text(id.as_str().to_owned()),
                                Value::Text("STARTED".to_owned()),
                                Value::Bytes(format!("[{writer}, {round}]").into()),
                                Value::Null,
                                Value::Null,
                                Value::Null,
                            ],
                        });
                        for answer in driver.put(Which::Tasks, rows.collect()).await {
                            answer.unwrap();
                        }
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        assert!(server.deadlocks().await > undone || server.is_postgresql(), "there was something to repeat");
        let store = server.store_with(&options);
        for id in &ids {
            assert_eq!(store.get(id).await.unwrap().unwrap().state, State::Started);
        }
    }
}

impl Server {
    /// How many transactions MySQL has undone so that others could go on; PostgreSQL, which may need none, tells too late.
    async fn deadlocks(&self) -> i64 {
        if self.is_postgresql() {
            return 0;
        }
        let count = "SELECT variable_value FROM information_schema.global_status \
                     WHERE variable_name = 'INNODB_DEADLOCKS'";
        self.sql(count).await[0][0].as_deref().unwrap().parse().unwrap()
    }

    /// A driver alone. On MySQL at the isolation level that the server has by itself, REPEATABLE READ.
    fn driver(&self, options: &DatabaseOptions) -> Box<dyn Driver> {
        match Target::parse(&self.url) {
            Ok(Target::Postgresql(target)) => {
                let pool = dial::postgresql::Pool::new(*target, options.pool.clone());
                Box::new(PostgresqlDriver::new(RedactedUrl::new(&self.url), pool, layout(options)))
            }
            Ok(Target::Mysql(target)) => {
                let pool = dial::mysql::Pool::new(*target, options.pool.clone()).unwrap();
                pool.keep_isolation();
                Box::new(MysqlDriver::new(RedactedUrl::new(&self.url), pool, layout(options)))
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_all_who_write_the_first_success_stays() {
    for server in servers() {
        let id = fresh("first");
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let (server, id) = (server.clone(), id.clone());
                tokio::spawn(async move {
                    let store = server.store();
                    let mut seen = BTreeSet::new();
                    for round in 0..10 {
                        let state = if (writer + round) % 3 == 0 { State::Success } else { State::Failure };
                        put(&store, &[record(&id, state, &format!("[{writer}, {round}]"))]).await;
                        let stored = store.get(&id).await.unwrap().unwrap();
                        if stored.state == State::Success {
                            seen.insert(stored.result.to_string());
                        }
                    }
                    seen
                })
            })
            .collect();
        let mut seen = BTreeSet::new();
        for writer in writers {
            seen.extend(writer.await.unwrap());
        }
        assert_eq!(seen.len(), 1, "{seen:?}");
    }
}

#[tokio::test]
async fn what_does_not_fit_says_so_and_keeps_nobody_else_out() {
    for server in servers() {
        let store = server.store();
        let (good, long) = (fresh("good"), TaskId::parse(&"i".repeat(156)).unwrap());
        let answers = store.put(&[record(&good, State::Success, "1"), record(&long, State::Success, "2")]).await;
        assert!(answers[0].is_ok() && store.get(&good).await.unwrap().is_some());
        let error = answers[1].as_ref().unwrap_err();
        let expected = "column task_id of celery_taskmeta takes 155 characters, and this has 156";
        assert!(!error.is_transient() && why(error) == expected, "{}", why(error));
        // A zero character, which PostgreSQL's text cannot hold.
        let id = fresh("zero");
        put(&store, &[ResultRecord { traceback: Some("a\0b".into()), ..record(&id, State::Failure, "1") }]).await;
        let traceback = store.get(&id).await.unwrap().unwrap().traceback.unwrap();
        assert!(["a\0b", "a\u{FFFD}b"].contains(&traceback.as_str()), "{traceback:?}");
    }
}

#[tokio::test]
async fn celerys_blob_of_mysql_is_refused_when_it_is_full_and_not_cut() {
    for server in servers().into_iter().filter(|server| !server.is_postgresql()) {
        let own = own_tables(&server, "blob").await;
        let (options, task) = (own.options.clone(), own.name());
        // As Celery makes it, on a server that thinks in latin1 and cuts what does not fit.
        server
            .sql(&format!(
                "CREATE TABLE {task} (id INTEGER NOT NULL AUTO_INCREMENT, task_id VARCHAR(155), status VARCHAR(50), \
                 result BLOB, date_done DATETIME, traceback TEXT, children BLOB, name VARCHAR(155), args BLOB, \
                 kwargs BLOB, worker VARCHAR(155), retries INTEGER, queue VARCHAR(155), stamps BLOB, PRIMARY KEY (id), \
                 UNIQUE (task_id)) CHARACTER SET latin1"
            ))
            .await;
        let store = server.store_with(&options);
        let (large, small) = (fresh("large"), fresh("small"));
        let text = format!("\"{}\"", "x".repeat(70_000));
        let crab = ResultRecord { traceback: Some("größe \u{1F980}".into()), ..record(&small, State::Failure, "1") };
        let answers = store.put(&[record(&large, State::Success, &text), crab]).await;
        let refused = answers[0].as_ref().unwrap_err();
        assert!(!refused.is_transient());
        let said = format!("{refused}: {}", std::error::Error::source(refused).expect("it says why"));
        for part in ["'result'", "LONGBLOB"] {
            assert!(said.contains(part), "{said}");
        }
        assert!(store.get(&large).await.unwrap().is_none());
        answers[1].as_ref().unwrap();
        let traceback = store.get(&small).await.unwrap().unwrap().traceback.unwrap();
        assert_eq!(traceback, r"gr\xf6\xdfe \U0001f980");
    }
}

#[tokio::test]
async fn a_new_row_never_takes_the_place_of_another_with_its_number() {
    for server in servers().into_iter().filter(|server| !server.is_postgresql()) {
        let own = own_tables(&server, "number").await;
        let store = server.store_with(&own.options);
        store.ping().await.unwrap();
        // From before there were sequences: numbers that none has given out yet.
        let taken = "SELECT NEXTVAL(task_id_sequence)";
        let taken: i64 = server.sql(taken).await[0][0].as_deref().unwrap().parse().unwrap();
        let rows = format!(
            "INSERT INTO {} (id, task_id, status) SELECT {taken} + seq, concat('old', seq), 'FAILURE' FROM seq_0_to_2000",
            own.task
        );
        server.sql(&rows).await;
        let id = fresh("number");
        put(&store, &[record(&id, State::Success, "1")]).await;
        assert!(store.get(&id).await.unwrap().is_some());
        let old = server.sql(&format!("SELECT count(*) FROM {} WHERE status = 'FAILURE'", own.task)).await;
        assert_eq!(old, [[Some("2001".to_owned())]]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expired_is_deleted_by_several_at_once() {
    for server in servers() {
        let own = own_tables(&server, "expire").await;
        let (options, task) = (own.options.clone(), own.name());
        let store = server.store_with(&options);
        let done = |at| ResultRecord { date_done: Some(at), ..record(&fresh("old"), State::Success, "1") };
        let old: Vec<_> = (0..1_300).map(|_| done(now() - Duration::from_secs(7_200))).collect();
        put(&store, &old).await;
        put(&store, &[done(now()), record(&fresh("running"), State::Started, "null")]).await;
        store.save_group("young", &Json::empty_list()).await.unwrap();
        let deleters: Vec<_> = (0..3)
            .map(|_| {
                let store = server.store_with(&options);
                tokio::spawn(async move { store.delete_expired(Duration::from_secs(3_600)).await.unwrap() })
            })
            .collect();
        let mut deleted = 0;
        for deleter in deleters {
            deleted += deleter.await.unwrap();
        }
        deleted += store.delete_expired(Duration::from_secs(3_600)).await.unwrap();
        assert_eq!(deleted, 1_300);
        let left = server.sql(&format!("SELECT count(*) FROM {task}")).await;
        assert_eq!(left, [[Some("2".to_owned())]]);
        assert!(store.group("young").await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_replaced() {
    for server in servers() {
        // Its own user's name for connections finds them.
        let Own { options, .. } = own_tables(&server, "killed").await;
        let store = server.store_with(&options);
        put(&store, &[record(&fresh("before"), State::Success, "1")]).await;
        if server.is_postgresql() {
            server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE '%killed%'").await;
        } else {
            let mine = "SELECT id FROM information_schema.processlist WHERE command = 'Sleep'";
            for row in server.sql(mine).await {
                // Others end meanwhile.
                let Ok(Target::Mysql(target)) = Target::parse(&server.url) else { panic!() };
                let pool = dial::mysql::Pool::new(*target, PoolOptions::default()).unwrap();
                use mysql_async::prelude::Queryable;
                let kill = format!("KILL {}", row[0].as_deref().unwrap());
                drop(pool.lease().await.unwrap().connection().query_drop(kill).await);
            }
        }
        put(&store, &[record(&fresh("after"), State::Success, "1")]).await;
    }
}

#[tokio::test]
async fn a_pool_gives_out_no_more_than_it_may() {
    for server in servers().into_iter().filter(Server::is_postgresql) {
        let options =
            PoolOptions { size: 1, overflow: 1, timeout: Duration::from_millis(50), ..PoolOptions::default() };
        let Ok(Target::Postgresql(target)) = Target::parse(&server.url) else { panic!() };
        let pool = dial::postgresql::Pool::new(*target, options);
        let (one, other) = (pool.lease().await.unwrap(), pool.lease().await.unwrap());
        let Err(error) = pool.lease().await else { panic!() };
        let expected = "all 2 connections were in use for 50ms (pool_size, max_overflow, pool_timeout)";
        assert_eq!((error.to_string().as_str(), error.is_transient()), (expected, true));
        one.give_back();
        other.give_back();
        assert_eq!(pool.idle(), 1, "what is too much is closed");
        assert!(pool.lease().await.unwrap().is_reused());
    }
}

#[tokio::test]
async fn a_login_that_is_refused_says_so_at_once() {
    for server in servers() {
        let url = server.url.replace(":secret@", ":wrong@");
        let store = Server { url }.store();
        let error = store.ping().await.unwrap_err();
        assert!(!error.is_transient(), "{error:?}");
        assert!(why(&error).contains("taskhost") && !why(&error).contains("wrong"), "{}", why(&error));
    }
}
