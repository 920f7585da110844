//! The list as people read it, and how settings are found.

use expect_test::expect;

use super::*;

#[test]
fn the_list_has_every_setting_and_reads_well() {
    expect![[r#"
        Settings, as in [group] key of host.toml:
          broker.url
                  where tasks come from; a list, or URLs with ; between them, are servers that stand in for each other [default: sqlite:///host.db]
          broker.read_url
                  where tasks and commands come from, if messages are published elsewhere; none: broker.url [default: none]
          broker.write_url
                  where messages, events and replies are published, if tasks come from elsewhere; none: broker.url [default: none]
          broker.failover_strategy
                  which of several servers is tried next when one fails: round-robin or shuffle [default: round-robin]
          broker.connection_retry
                  connect again when the connection to the broker is lost [default: true]
          broker.connection_retry_on_startup
                  try again when the broker cannot be reached at the start; none: as broker.connection_retry [default: none]
          broker.connection_max_retries
                  how often to try again until the worker gives up and ends; 0 or none: for ever [default: none]
          broker.consumer_timeout
                  how long RabbitMQ lets a message be unacknowledged; tasks that run for longer are kept in worker.state_db [default: 30m]
          broker.connection_timeout
                  how long to wait for a connection [default: 4s]
          broker.transport_options
                  options of kombu's transport for Redis, SQS or folders: ["visibility_timeout=600"] or a table, { region = "eu-west-1" } [default: none]
          broker.native_delayed_delivery_queue_type
                  queues of RabbitMQ in which tasks with a later start wait: classic or quorum [default: quorum]
          broker.use_ssl
                  TLS to the broker though its URL does not say so; or a table, such as { ca_certs = "ca.pem" } [default: none]
          broker.ssl_ca_certs
                  whose certificates are believed (a PEM file); none: those that this machine believes [default: none]
          broker.ssl_certfile
                  the certificate that this worker shows (PEM), with those that lead to its root [default: none]
          broker.ssl_keyfile
                  its key (PEM); none: in broker.ssl_certfile as well [default: none]
          broker.ssl_cert_reqs
                  whether the broker's certificate is checked: required, optional (the same), or none [default: required]
          broker.ssl_check_hostname
                  whether that is checked to be for the host of the URL [default: true]
          result.backend
                  where results are kept; disabled:// keeps none [default: the broker itself (the first of several), or rpc:// with RabbitMQ]
          result.backend_transport_options
                  options of Celery's Redis backend: ["global_keyprefix=app:", "result_chord_ordered=false"] [default: none]
          result.use_ssl
                  as broker.use_ssl, for result.backend (Celery's redis_backend_use_ssl) [default: none]
          result.ssl_ca_certs
                  as broker.ssl_ca_certs, for result.backend [default: none]
          result.ssl_certfile
                  as broker.ssl_certfile, for result.backend [default: none]
          result.ssl_keyfile
                  as broker.ssl_keyfile, for result.backend [default: none]
          result.ssl_cert_reqs
                  as broker.ssl_cert_reqs, for result.backend [default: required]
          result.ssl_check_hostname
                  as broker.ssl_check_hostname, for result.backend [default: true]
          result.expires
                  how long results are kept; none: for ever [default: 1d]
          result.failure_expires
                  the same for failures, in Redis; none: as result.expires [default: none]
          result.chord_expires
                  how long a chord waits for its members, in Redis; none: as result.expires [default: none]
          result.chord_join_timeout
                  how long to wait for results that the body of a chord needs and that should be there [default: 3s]
          result.chord_retry_interval
                  how often results of a chord are looked at where the store does not count them, as in SQL tables [default: 1s]
          result.spool_limit
                  how many tasks may have ended whose results the store does not take until no more start [default: 1000]
          result.spool_bytes
                  the same in bytes of their results, together [default: 64MiB]
          result.write_timeout
                  how long the store may take over results until they are written again [default: 30s]
          result.serializer
                  how results are written: json, yaml, msgpack or auth [default: json]
          result.extended
                  store name, arguments, worker, retries and queue with each result [default: false]
          result.usage
                  store what the task used with each result; not in SQL tables [default: false]
          database.engine_options
                  connections to PostgreSQL or MySQL: ["pool_size=5", "max_overflow=10", "pool_timeout=30", "pool_recycle=3600"] [default: none]
          database.table_names
                  tables of results in a database: ["task=celery_taskmeta", "group=celery_tasksetmeta"] [default: none]
          database.table_schemas
                  the schemas that they are in: ["task=celery", "group=celery"] [default: none]
          database.create_tables_at_setup
                  make tables that are missing when the worker starts, and not at the first result [default: true]
          database.short_lived_sessions
                  keep no connection to PostgreSQL or MySQL that is not in use [default: false]
          task.acks_late
                  acknowledge after a task has run, so that a crash loses nothing [default: true]
          task.acks_on_failure_or_timeout
                  of late acknowledgements: acknowledge a task that failed or passed its time limit, too [default: true]
          task.acks_on_failure
                  acknowledge a task that failed, or reject it; none: as task.acks_on_failure_or_timeout [default: none]
          task.acks_on_timeout
                  acknowledge a task that passed its hard time limit, or give it back; none: as task.acks_on_failure_or_timeout [default: none]
          task.reject_on_worker_lost
                  give a task back that trapped, until task.delivery_limit; its failure is not stored [default: false]
          task.retry_on_worker_lost
                  retry a task that trapped, if it has retries left [default: false]
          task.track_started
                  store the state STARTED when a task starts [default: false]
          task.ignore_result
                  store no results [default: false]
          task.store_errors_even_if_ignored
                  store failures even where results are ignored [default: false]
          task.send_sent_event
                  tell monitors what tasks this worker sends [default: false]
          task.time_limit
                  stop a task after this time [default: none]
          task.soft_time_limit
                  tell a task to finish after this time [default: none]
          task.default_rate_limit
                  how often each task may start, such as 10/s or 100/m [default: none]
          task.delivery_limit
                  keep a message aside that lost so many workers; none: never [default: 20]
          task.default_queue
                  the queue for tasks that name none [default: celery]
          task.queues
                  the queues to take tasks from [default: those of [queues], or task.default_queue]
          task.exclude_queues
                  of these, the queues to take no tasks from [default: none]
          task.create_missing_queues
                  task.queues may name queues that [queues] does not define [default: true]
          task.inherit_parent_priority
                  what follows a task has its priority: callbacks and the next step of its chain [default: false]
          task.allow_error_cb_on_chord_header
                  an errback linked to a chord is linked to the members of its header as well [default: false]
          task.default_queue_type
                  what queues are made as: classic or quorum [default: classic]
          task.queue_max_priority
                  largest priority of classic queues of RabbitMQ; none: they know no priorities [default: none]
          worker.concurrency
                  how many tasks run at a time [default: number of CPUs]
          worker.autoscale
                  most and fewest tasks that run at a time, such as "10,3", between which the number follows the load [default: none]
          worker.concurrency_max
                  how many tasks may run at a time after pool_grow and autoscale [default: 64, or 16 more than run at a time]
          worker.prefetch_multiplier
                  messages to fetch ahead for each running task; 0: no bound [default: 4]
          worker.prefetch_max
                  how many messages to fetch ahead at most while tasks are short; 0: no more than prefetch_multiplier says [default: 256]
          worker.disable_prefetch
                  take no more messages than can run at once [default: false]
          worker.limited_task_limit
                  how many tasks may wait here for a rate or concurrency limit beside the messages fetched ahead [default: 10000]
          worker.eta_task_limit
                  how many tasks with a later start may be held beside those; none: no bound [default: none]
          worker.eta_hold
                  tasks with a later start than this wait at the broker, not here [default: 60s]
          worker.rate_limit_store
                  where workers count starts of tasks with rate_limit_scope = cluster [default: result.backend or broker.url, if it is Redis or SQLite]
          worker.direct
                  take tasks from a queue of this worker's own as well, NAME.dq2 [default: false]
          worker.unknown_task
                  a task that no plugin ever had here: reject, requeue, or park until one has it [default: reject]
          worker.removed_task
                  the same for a task that a plugin had before [default: park]
          worker.soft_shutdown_timeout
                  how long a cold shutdown lets tasks go on before it stops them [default: none]
          worker.hostname
                  name of this worker: %h host, %n host without domain, %d domain [default: taskhost@%h]
          worker.state_db
                  file for what this worker alone must remember; none: nothing outlives it. %p name, %n name before the @, %h host, %d domain [default: the name of the worker with .state.db]
          worker.control_socket
                  where this worker answers commands on its machine: `host plugin list`, and `host inspect` where the broker cannot; none: it does not [default: worker.state_db with .sock behind it]
          worker.metrics
                  where metrics are served for Prometheus, such as 127.0.0.1:9464; none: nowhere [default: none]
          worker.send_task_events
                  tell monitors what happens to tasks from the start; else when one asks for it [default: false]
          worker.heartbeat_interval
                  how often monitors hear that this worker lives; none: never [default: 2s]
          worker.enable_remote_control
                  answer celery inspect, celery control and Flower, where the broker reaches mailboxes [default: true]
          worker.mingle
                  ask other workers at the start what is revoked, and how far their logical clocks are [default: true]
          worker.pool_restarts
                  celery control pool_restart loads plugins that have changed [default: true]
          event.exchange
                  the exchange by which monitors hear of workers and tasks [default: celeryev]
          event.queue_prefix
                  what the queue of a monitor begins with [default: celeryev]
          event.queue_ttl
                  how long RabbitMQ keeps an event for a monitor that does not read; none: for ever [default: 5s]
          event.queue_expires
                  how long RabbitMQ keeps its queue when nobody reads; none: for ever [default: 60s]
          control.exchange
                  what the exchanges of remote control are named after [default: celery]
          control.queue_ttl
                  how long RabbitMQ keeps a command or a reply for whoever does not read; none: for ever [default: 5m]
          control.queue_expires
                  how long RabbitMQ keeps their queues when nobody reads; none: for ever [default: 10s]
          otel.endpoint
                  where traces go: an OpenTelemetry collector that takes OTLP over HTTP, such as http://localhost:4318 (OTEL_EXPORTER_OTLP_ENDPOINT); none: nowhere [default: none]
          otel.traces_endpoint
                  the same with its path (OTEL_EXPORTER_OTLP_TRACES_ENDPOINT); none: v1/traces below otel.endpoint [default: none]
          otel.headers
                  headers for the collector, such as api-key=abc,tenant=a (OTEL_EXPORTER_OTLP_HEADERS) [default: none]
          otel.service_name
                  what this worker is called in traces (OTEL_SERVICE_NAME) [default: taskhost]
          otel.resource_attributes
                  what else traces say about it, such as ["deployment.environment.name=prod"] (OTEL_RESOURCE_ATTRIBUTES) [default: none]
          otel.traces_sampler
                  which traces are recorded (OTEL_TRACES_SAMPLER); parentbased_: whoever began one decides [default: parentbased_always_on]
          otel.traces_sampler_arg
                  the share that traceidratio records (OTEL_TRACES_SAMPLER_ARG) [default: 1]
          accept.content
                  how clients may write bodies: json, yaml, msgpack, auth [default: json]
          security.key
                  this worker's private key (RSA, PEM), for signed messages [default: none]
          security.key_password
                  what the private key is encrypted with [default: none]
          security.certificate
                  the certificate (X.509, PEM) of that key [default: none]
          security.cert_store
                  certificates of all whose signatures are believed: a folder, or files such as certs/*.pem [default: none]
          security.digest
                  what is signed: sha224, sha256, sha384 or sha512 [default: sha256]
          limits.memory
                  memory of one running task [default: 128MiB]
          limits.time
                  no task runs longer than this, whatever it asks for [default: 30m]
          limits.stack
                  stack of a running task, for recursion [default: 1MiB]
          limits.handles
                  timers, streams and files that a running task may hold [default: 1000]
          limits.host_calls
                  how often a running task may call the host [default: 1000000]
          limits.plugin_concurrency
                  how many tasks of one plugin run at a time; none: as many as the worker runs [default: none]
          limits.publish
                  how many other tasks a running task may publish [default: 1000]
          limits.events
                  how many events of its own a running task may tell monitors [default: 1000]
          limits.event_bytes
                  how long those may be together [default: 64KiB]
          limits.keyvalue_value
                  size of one value that a plugin keeps [default: 1MiB]
          limits.host_call_bytes
                  what it may hand over in one such call [default: 32MiB]
          limits.cpu_time
                  no task computes longer than this; none: as long as it runs [default: none]
          limits.body
                  size of a message's body once it is decompressed [default: 64MiB]
          limits.result
                  size of one result [default: 16MiB]
          limits.log
                  what one run of a task may write to its output [default: 64KiB]
          limits.log_line
                  length of one line of that [default: 8KiB]
          limits.state
                  size of what a running task reports with a state of its own [default: 64KiB]
          limits.state_interval
                  of the states that a task reports within this, keep the last [default: 100ms]
          limits.component
                  size of a plugin's .wasm file [default: 64MiB]
          limits.compile_time
                  how long it may take to compile a plugin [default: 1m]
          limits.describe_time
                  how long a plugin may take to list its tasks [default: 5s]
          limits.sockets
                  sockets of one running task at once [default: 64]
          limits.http_requests
                  HTTP requests of one running task at once; more wait their turn [default: 16]
          limits.http_header
                  size of the header of a request, or of a response [default: 32KiB]
          limits.http_request_body
                  size of what a running task sends with one request [default: 16MiB]
          limits.http_response_body
                  size of what it reads of one response [default: 16MiB]
          limits.http_timeout
                  how long it waits for a connection, for the response, and for each part of that [default: 1m]
          sandbox.scratch_dir
                  where tasks have their scratch folders; none: a private one among the system's temporary folders [default: none]
          keyvalue.url
                  where plugins keep values (wasi:keyvalue): a Redis server or an SQLite file [default: sqlite:///host-keyvalue.db]
          plugins.dir
                  folder with plugins: *.wasm files, and folders with a plugin.toml [default: plugins]
          plugins.watch
                  load plugins that come, change or go while the worker runs [default: true]
          plugins.cache
                  where compiled code is kept from one start to the next; none: nowhere [default: the user's cache folder, taskhost/compiled in it]
          plugins.cache_key
                  file with the key that seals it, made if it is missing [default: the user's state folder, taskhost/cache.key in it]
          plugins.wasi_0_3
                  load plugins that import WASI 0.3, which wasmtime calls unfinished; without files, sockets and HTTP [default: false]
          quarantine.violations
                  so many traps, time-outs or exhausted memories of a plugin park its tasks; none: never [default: 10]
          quarantine.window
                  the time within which they come [default: 1m]
          quarantine.pause
                  after which one task shows whether the plugin is better now [default: 1m]
          log.level
                  how much the worker logs: debug, info, warning, error or critical [default: info]
          log.format
                  text, or json with one object a line [default: text]

        Options of one task, as in [tasks."images.resize"] of host.toml:
          acks_late
                  as task.acks_late, for this task
          acks_on_failure
                  as task.acks_on_failure, for this task
          acks_on_failure_or_timeout
                  as task.acks_on_failure_or_timeout, for this task
          acks_on_timeout
                  as task.acks_on_timeout, for this task
          autoretry_for
                  exception classes after which the task is retried
          concurrency
                  how many of the task run at a time in one worker; none: no limit
          concurrency_key
                  what counts apart for concurrency, such as kwargs.tenant, args.0 or headers.tenant; keys take turns
          default_retry_delay
                  wait before a retry that names no time
          dont_autoretry_for
                  exception classes after which it is not, in spite of autoretry_for
          ignore_result
                  as task.ignore_result, for this task
          max_retries
                  how often the task may be retried; none: without end
          rate_limit
                  how often the task may start, such as 10/s or 100/m
          rate_limit_scope
                  who shares rate_limit: worker, or cluster for all workers together
          reject_on_worker_lost
                  as task.reject_on_worker_lost, for this task
          retry_backoff
                  first wait in seconds of automatic retries, doubled each time; 0: no doubling
          retry_backoff_max
                  longest wait of automatic retries
          retry_jitter
                  draw the wait of automatic retries at random
          pin_retries
                  a retry runs on the version of the plugin that asked for it
          retry_on
                  retry a task that ended by a trap, memory or time, such as ["trap", "memory"]
          retry_on_worker_lost
                  as task.retry_on_worker_lost, for this task
          soft_time_limit
                  as task.soft_time_limit, for this task
          store_errors_even_if_ignored
                  as task.store_errors_even_if_ignored, for this task
          time_limit
                  as task.time_limit, for this task
          track_started
                  as task.track_started, for this task

        Options of one queue, as in [queues."images"] of host.toml:
          binding_arguments
                  what a headers exchange compares, such as ["x-match=all"]
          broadcast
                  every worker gets each message
          exchange
                  the exchange that brings messages; as the queue, if not given
          exchange_type
                  direct, topic, fanout or headers
          max_priority
                  as task.queue_max_priority, for this queue
          routing_key
                  the key of the binding; the queue's name, if not given
          type
                  as task.default_queue_type, for this queue

        Grants to one plugin, as in [grants."images"] of host.toml:
          config
                  what wasi:config tells the plugin, such as ["region=eu"]
          env
                  environment variables: ["LANG"] as the worker has it, or ["LANG=C"]
          fs
                  folders, such as ["/data=/srv/data", "/out=/srv/out:rw"]; read-only without :rw
          http
                  where it may send requests, such as ["https://*.example.com", "http://10.1.2.3:8080"]
          keyvalue
                  buckets for values (wasi:keyvalue), such as ["cache"], or ["cache=redis://localhost/2"]
          networks
                  what names may lead to beside the Internet: loopback, private, link-local, shared, metadata, or "10.1.0.0/16"
          publish
                  tasks that it may call, such as ["images.*"], or ["mail.send@mail"] by a queue that it names
          results
                  results that it may see: ["own"] those of tasks that descend from its own, or ["any"]
          scratch
                  how large the private folder of each attempt may be, such as ["64MiB"]
          secrets
                  secrets, such as ["key=env:VARIABLE", "token=file:/run/secrets/token"]
          sha256
                  the component that all this is for; any file of that name, if not given
          sockets
                  machines to talk to, such as ["tcp://db.example.com:5432", "udp://10.0.0.0/8:53"]
          tasks
                  the tasks that may use it, such as ["images.*"]; all of the plugin, if not given
    "#]].assert_eq(&help());
}
