//! The databases that results are kept in: emptied before a worker runs, asked while it does, and written by the bare loop.
//!
//! Celery's table is made here, so that the bare loop finds it too.

use mysql_async::prelude::Queryable;
use tokio_postgres::NoTls;
use tokio_postgres::types::Type;

use crate::Result;

/// As SQLAlchemy makes them for Celery.
const POSTGRESQL_TABLES: &str = "\
CREATE SEQUENCE IF NOT EXISTS task_id_sequence;
DROP TABLE IF EXISTS celery_taskmeta;
CREATE TABLE celery_taskmeta (id INTEGER PRIMARY KEY, task_id VARCHAR(155) UNIQUE, status VARCHAR(50), \
result BYTEA, date_done TIMESTAMP WITHOUT TIME ZONE, traceback TEXT, children BYTEA, name VARCHAR(155), args BYTEA, \
kwargs BYTEA, worker VARCHAR(155), retries INTEGER, queue VARCHAR(155), stamps BYTEA);
CREATE INDEX ix_celery_taskmeta_date_done ON celery_taskmeta (date_done)";
const MYSQL_TABLE: &str = "\
CREATE TABLE celery_taskmeta (id INTEGER NOT NULL AUTO_INCREMENT PRIMARY KEY, task_id VARCHAR(155) UNIQUE, \
status VARCHAR(50), result BLOB, date_done DATETIME, traceback TEXT, children BLOB, name VARCHAR(155), args BLOB, \
kwargs BLOB, worker VARCHAR(155), retries INTEGER, queue VARCHAR(155), stamps BLOB, \
INDEX ix_celery_taskmeta_date_done (date_done))";

const RESULTS: &str = "SELECT count(*) FROM celery_taskmeta";
const SUCCESSES: &str = "SELECT count(*) FROM celery_taskmeta WHERE status = 'SUCCESS'";

/// A connection.
pub(crate) enum Database {
    PostgreSql(tokio_postgres::Client),
    MySql(mysql_async::Conn),
}

impl Database {
    /// Connects to what a result backend of Celery names.
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").ok_or("the URL of a database has no scheme")?;
        if scheme.contains("mysql") || scheme.contains("mariadb") {
            return Ok(Self::MySql(mysql_async::Conn::from_url(format!("mysql://{rest}")).await?));
        }
        let (client, connection) = tokio_postgres::connect(&format!("postgresql://{rest}"), NoTls).await?;
        // It ends with the client; what it has to say the client says as well.
        tokio::spawn(connection);
        Ok(Self::PostgreSql(client))
    }

    /// What it is, for people.
    pub(crate) async fn version(&mut self) -> Result<String> {
        Ok(match self {
            Self::PostgreSql(client) => {
                format!("PostgreSQL {}", client.query_one("SHOW server_version", &[]).await?.get::<_, String>(0))
            }
            Self::MySql(connection) => {
                let version: Option<String> = connection.query_first("SELECT VERSION()").await?;
                version.unwrap_or_default()
            }
        })
    }

    /// Makes the tables anew: whoever made them before may have numbered their rows in another way.
    pub(crate) async fn clear(&mut self) -> Result<()> {
        match self {
            Self::PostgreSql(client) => client.batch_execute(POSTGRESQL_TABLES).await?,
            Self::MySql(connection) => {
                connection.query_drop("DROP TABLE IF EXISTS celery_taskmeta").await?;
                connection.query_drop(MYSQL_TABLE).await?;
            }
        }
        Ok(())
    }

    /// How many results there are.
    pub(crate) async fn results(&mut self) -> Result<u64> {
        self.count(RESULTS).await
    }

    /// How many of them say SUCCESS.
    pub(crate) async fn successes(&mut self) -> Result<u64> {
        self.count(SUCCESSES).await
    }

    async fn count(&mut self, query: &str) -> Result<u64> {
        match self {
            Self::PostgreSql(client) => Ok(client.query_one(query, &[]).await?.get::<_, i64>(0).unsigned_abs()),
            Self::MySql(connection) => Ok(connection.query_first(query).await?.unwrap_or_default()),
        }
    }

    /// Writes what Celery writes for tasks that returned None, in one statement; `done` is such as `2026-11-26 10:00:00`.
    pub(crate) async fn store(&mut self, ids: &[&str], done: &str) -> Result<()> {
        match self {
            Self::PostgreSql(client) => {
                let insert = "INSERT INTO celery_taskmeta (id, task_id, status, result, date_done, children) \
                              SELECT nextval('task_id_sequence'), id, 'SUCCESS', 'null', $2::timestamp, '[]' \
                              FROM unnest($1) AS id";
                let done = done.to_owned();
                let insert = insert.replace("$2", &format!("'{done}'"));
                client.query_typed(&insert, &[(&ids, Type::TEXT_ARRAY)]).await?;
            }
            Self::MySql(connection) => {
                let rows: Vec<String> =
                    ids.iter().map(|id| format!("('{id}','SUCCESS','null','{done}','[]')")).collect();
                let rows = rows.join(",");
                let insert = "INSERT INTO celery_taskmeta (task_id, status, result, date_done, children) VALUES ";
                connection.query_drop(format!("{insert}{rows}")).await?;
            }
        }
        Ok(())
    }
}
