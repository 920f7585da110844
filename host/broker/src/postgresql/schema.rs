//! The tables: what SQLAlchemy makes of kombu's models on PostgreSQL, with columns and indexes of our own.
//!
//! A Python client may have made them, or may use them at the same time: whatever is ours may be absent from a row.

use tokio_postgres::Client;

/// One process makes tables at a time: `CREATE .. IF NOT EXISTS` of two at once is an error of one of them.
const LOCK: i64 = 0x7461_736b_686f_7374;

/// The names of the tables (kombu's `queue_tablename` and `message_tablename`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tables {
    pub(super) queue: String,
    pub(super) message: String,
}

impl Default for Tables {
    fn default() -> Self {
        Self { queue: "kombu_queue".to_owned(), message: "kombu_message".to_owned() }
    }
}

/// A name that needs no escapes between quotes.
pub(super) fn is_table_name(name: &str) -> bool {
    const BYTES_MAX: usize = 40;
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    plain && !name.is_empty() && name.len() <= BYTES_MAX && !name.as_bytes()[0].is_ascii_digit()
}

impl Tables {
    /// Makes what is missing. Whoever may only read and write rows uses the tables that somebody else has made.
    pub(super) async fn make(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        if self.are_there(client).await? {
            return Ok(());
        }
        client.batch_execute(&self.statements()).await
    }

    async fn are_there(&self, client: &Client) -> Result<bool, tokio_postgres::Error> {
        let Self { queue, message } = self;
        let sql = format!(
            "SELECT to_regclass('\"{queue}\"') IS NOT NULL
                AND to_regclass('queue_id_sequence') IS NOT NULL AND to_regclass('message_id_sequence') IS NOT NULL
                AND to_regclass('\"ix_{message}_lease\"') IS NOT NULL
                AND (SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass('\"{message}\"') AND NOT attisdropped
                     AND attname IN ('priority', 'eta', 'lease_until', 'owner', 'redelivered', 'delivery_count')) = 6"
        );
        Ok(client.query_typed(&sql, &[]).await?.first().is_some_and(|row| row.get(0)))
    }

    fn statements(&self) -> String {
        let Self { queue, message } = self;
        // Times of ours are milliseconds since the epoch, by the server's clock. Larger priorities are more urgent; null
        // until somebody has read the payload of a client's row. An eta is null once due, or if there is none.
        format!(
            r#"
BEGIN;
SELECT pg_advisory_xact_lock({LOCK});
CREATE SEQUENCE IF NOT EXISTS queue_id_sequence;
CREATE SEQUENCE IF NOT EXISTS message_id_sequence;
CREATE TABLE IF NOT EXISTS "{queue}" (
    id INTEGER NOT NULL,
    name VARCHAR(200),
    PRIMARY KEY (id),
    UNIQUE (name)
);
CREATE TABLE IF NOT EXISTS "{message}" (
    id INTEGER NOT NULL,
    visible BOOLEAN,
    timestamp TIMESTAMP WITHOUT TIME ZONE,
    payload TEXT NOT NULL,
    version SMALLINT NOT NULL,
    queue_id INTEGER,
    PRIMARY KEY (id),
    CONSTRAINT "FK_kombu_message_queue" FOREIGN KEY(queue_id) REFERENCES "{queue}" (id)
);
CREATE INDEX IF NOT EXISTS "ix_{message}_visible" ON "{message}" (visible);
CREATE INDEX IF NOT EXISTS "ix_{message}_timestamp" ON "{message}" (timestamp);
CREATE INDEX IF NOT EXISTS ix_kombu_message_timestamp_id ON "{message}" (timestamp, id);
ALTER TABLE "{message}"
    ADD COLUMN IF NOT EXISTS priority INTEGER,
    ADD COLUMN IF NOT EXISTS eta BIGINT,
    ADD COLUMN IF NOT EXISTS lease_until BIGINT,
    ADD COLUMN IF NOT EXISTS owner TEXT,
    ADD COLUMN IF NOT EXISTS redelivered BOOLEAN NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS delivery_count INTEGER NOT NULL DEFAULT 0;
CREATE INDEX IF NOT EXISTS "ix_{message}_ready" ON "{message}" (queue_id, priority DESC, id) WHERE visible AND eta IS NULL;
CREATE INDEX IF NOT EXISTS "ix_{message}_eta" ON "{message}" (queue_id, eta) WHERE eta IS NOT NULL;
CREATE INDEX IF NOT EXISTS "ix_{message}_lease" ON "{message}" (lease_until) WHERE lease_until IS NOT NULL;
COMMIT;"#
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_plain_name() {
        for (name, plain) in [("kombu_queue", true), ("_q2", true), ("2q", false), ("", false), ("q\"; DROP", false)] {
            assert_eq!(is_table_name(name), plain, "{name}");
        }
    }
}
