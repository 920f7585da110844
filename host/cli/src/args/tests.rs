//! Help texts as people see them, and where options go.

use clap::CommandFactory;
use expect_test::{Expect, expect};

use super::*;

#[track_caller]
fn check_help(path: &[&str], expected: Expect) {
    let mut command = CommandLine::command().term_width(84);
    command.build();
    let mut command = &mut command;
    for name in path {
        command = command.find_subcommand_mut(name).expect("the subcommand is there");
    }
    expected.assert_eq(&command.render_help().to_string());
}

#[test]
fn the_command_line_is_consistent() {
    CommandLine::command().debug_assert();
}

#[test]
fn help_of_host() {
    check_help(
        &[],
        expect![[r#"
            Run sandboxed WebAssembly tasks for Celery clients

            Usage: host <COMMAND>

            Commands:
              run      Start a worker: it takes tasks from queues and runs each in a sandbox of
                       its own
              call     Publish a task and print its id, or its result with --wait
              result   Show the state and the result of a task
              plugin   Write plugins, and look into those of a folder or of a running worker
              status   Show which workers are up, ours and Python's
              inspect  Ask workers what they have and do
              control  Tell workers what to do from now on
              events   Show what happens to workers and tasks, as it happens
              purge    Delete all waiting messages of queues
              dead     Look at messages that were kept aside because nobody could finish them
              config   Show every setting in effect, and where its value came from

            Options:
              -h, --help     Print help
              -V, --version  Print version

            Examples:
              host run --plugins ./plugins
                  Starts a worker. Needs no server.
              host call tasks.add --args '[2, 2]' --wait
                  Calls a task and prints its result.
              host run --help
                  Shows options and examples of a command.

            Exit codes: 0 done, 1 failed, 2 wrong options or configuration, 69 no worker
            answered.
        "#]],
    );
}

#[test]
fn help_of_run() {
    check_help(
        &["run"],
        expect![[r#"
            Start a worker: it takes tasks from queues and runs each in a sandbox of its own

            Usage: host run [OPTIONS]

            Options:
                  --plugins <DIR>
                      Folder with plugins: *.wasm files, and folders with a plugin.toml
                      [default: plugins]
                  --metrics <ADDR>
                      Serve metrics for Prometheus at this address, such as 127.0.0.1:9464
              -b, --broker <URL>
                      Where tasks are: amqp(s)://user:password@host// for RabbitMQ,
                      redis(s)://:password@host/0, sentinel://, sqs://, sqla+postgresql://,
                      filesystem:// or sqlite:///FILE; several with `;` stand in for each other
                      [default: sqlite:///host.db]
              -r, --result-backend <URL>
                      Where results are: redis(s)://:password@host/0, sentinel://,
                      db+postgresql://, db+mysql://, db+sqlite:///FILE, cache+memcached://,
                      file:///DIR, rpc://, amqp:// or disabled:// [default: the broker itself,
                      or rpc:// with RabbitMQ]
              -Q, --queues <NAMES>
                      Queues to take tasks from, with commas between them [default: those of
                      [queues] in the configuration, or celery]
              -X, --exclude-queues <NAMES>
                      Of these, queues to take no tasks from, with commas between them
              -c, --concurrency <N>
                      How many tasks run at a time [default: number of CPUs]
                  --autoscale <MAX,MIN>
                      Most and fewest tasks that run at a time, such as 10,3: the number follows
                      the load
              -n, --hostname <NAME>
                      Name of this worker; %h is the name of the machine, %n the same without
                      domain, %d the domain [default: taskhost@%h]
                  --prefetch-multiplier <N>
                      Messages to fetch ahead for each task that can run at a time; 0 fetches
                      all [default: 4]
                  --time-limit <TIME>
                      Stop a task after this time, such as 90 (seconds), 5m or 1h [default:
                      none]
                  --soft-time-limit <TIME>
                      Tell a task to finish after this time; a task that does not listen is
                      stopped [default: none]
              -S, --statedb <FILE>
                      File for what this worker alone must remember, such as revoked tasks; %n
                      is its name, none keeps nothing [default: the name of the worker with
                      .state.db]
              -E, --task-events
                      Tell monitors (celery events, Flower) what happens to tasks from the
                      start; else when one asks [alias: --events]
                  --heartbeat-interval <TIME>
                      How often monitors hear that this worker lives [default: 2s]
                  --without-heartbeat
                      Do not tell monitors that this worker lives
                  --without-mingle
                      Do not ask other workers at the start what is revoked
              -l, --loglevel <LEVEL>
                      How much to log: debug, info, warning, error or critical [default: info]
                  --config <FILE>
                      Configuration file [default: host.toml, if there is one]
                  --set <NAME=VALUE>
                      Any setting by its name, such as task_acks_late=false; may be repeated.
                      `host config --help` lists them
                  --purge
                      Delete all waiting messages of the queues before starting [alias:
                      --discard]
                  --watch-build
                      Build plugins again when their sources change: those with [build] in their
                      plugin.toml
              -h, --help
                      Print help

            Examples:
              host run --plugins ./plugins
                  Needs no server: tasks and results are kept in the file host.db.
              host run -b amqp://guest:guest@localhost// -r redis://localhost/0 -Q a,b -c 8
                  Takes tasks from two queues of RabbitMQ and keeps results in Redis.
              host run --watch-build
                  For whoever writes plugins: a change in a source is served as soon as it is
                  built.

            Ctrl-C once finishes the tasks that run, twice stops them and gives them back,
            three times quits at once.
        "#]],
    );
}

#[test]
fn help_of_call() {
    check_help(
        &["call"],
        expect![[r#"
            Publish a task and print its id, or its result with --wait

            Usage: host call [OPTIONS] <NAME>

            Arguments:
              <NAME>  Name of the task, such as images.resize

            Options:
              -a, --args <JSON>           Positional arguments: a JSON array [default: []]
              -k, --kwargs <JSON>         Keyword arguments: a JSON object [default: {}]
                  --countdown <TIME>      Run the task after this time, such as 90 (seconds), 5m
                                          or 1h
                  --eta <DATE>            Run the task at this time, such as
                                          2026-12-24T18:00:00Z; without a zone it is UTC
                  --expires <DATE|TIME>   Forget the task if it has not started by then: a date,
                                          or a time from now
                  --queue <NAME>          Queue to publish to [default: celery]
                  --priority <N>          Priority from 0 to 255; on RabbitMQ and in the
                                          embedded file a larger one goes first
                  --id <ID>               Id of the call [default: a new UUID]
                  --wait[=<TIME>]         Wait for the result, at most this time if one is given
                                          (as --wait=30s)
              -b, --broker <URL>          Where tasks are: amqp(s)://user:password@host// for
                                          RabbitMQ, redis(s)://:password@host/0, sentinel://,
                                          sqs://, sqla+postgresql://, filesystem:// or
                                          sqlite:///FILE; several with `;` stand in for each
                                          other [default: sqlite:///host.db]
              -r, --result-backend <URL>  Where results are: redis(s)://:password@host/0,
                                          sentinel://, db+postgresql://, db+mysql://,
                                          db+sqlite:///FILE, cache+memcached://, file:///DIR,
                                          rpc://, amqp:// or disabled:// [default: the broker
                                          itself, or rpc:// with RabbitMQ]
                  --config <FILE>         Configuration file [default: host.toml, if there is
                                          one]
                  --set <NAME=VALUE>      Any setting by its name, such as task_acks_late=false;
                                          may be repeated. `host config --help` lists them
              -h, --help                  Print help

            Examples:
              host call tasks.add --args '[2, 2]' --wait
                  Prints 4. If the task fails, prints its exception on stderr and exits with 1.
              host call images.resize --kwargs '{"width": 80}' --countdown 5m --queue images
                  Prints the id of the task; `host result ID` shows how it goes on.
        "#]],
    );
}

#[test]
fn help_of_result() {
    check_help(
        &["result"],
        expect![[r#"
            Show the state and the result of a task

            Usage: host result [OPTIONS] <ID>

            Arguments:
              <ID>  Id of the task

            Options:
                  --wait[=<TIME>]         Wait for the result, at most this time if one is given
                                          (as --wait=30s)
                  --json                  Print one JSON object instead of text
              -b, --broker <URL>          Where tasks are: amqp(s)://user:password@host// for
                                          RabbitMQ, redis(s)://:password@host/0, sentinel://,
                                          sqs://, sqla+postgresql://, filesystem:// or
                                          sqlite:///FILE; several with `;` stand in for each
                                          other [default: sqlite:///host.db]
              -r, --result-backend <URL>  Where results are: redis(s)://:password@host/0,
                                          sentinel://, db+postgresql://, db+mysql://,
                                          db+sqlite:///FILE, cache+memcached://, file:///DIR,
                                          rpc://, amqp:// or disabled:// [default: the broker
                                          itself, or rpc:// with RabbitMQ]
                  --config <FILE>         Configuration file [default: host.toml, if there is
                                          one]
                  --set <NAME=VALUE>      Any setting by its name, such as task_acks_late=false;
                                          may be repeated. `host config --help` lists them
              -h, --help                  Print help

            Examples:
              host result 7b1f5a52-3c5e-4d8c-9a43-0a4a1f0f6d2b
                  An unknown id is PENDING, as in Celery: it looks like a task that waits.
              host result my-id --wait=30s --json -r redis://localhost/0
                  Exits with 1 if the task failed, or was not done in time.
        "#]],
    );
}

#[test]
fn help_of_plugin() {
    check_help(
        &["plugin"],
        expect![[r#"
            Write plugins, and look into those of a folder or of a running worker

            Usage: host plugin <COMMAND>

            Commands:
              new     Make a folder with a new plugin to start from
              build   Make the component of a plugin from its sources, and check it
              run     Run one task of a plugin here, with no broker and no worker
              test    Run the cases of a plugin: calls with what is to come of them
              check   Say whether a plugin can be loaded, and which tasks it has
              list    List plugins with their tasks, and those that are refused with the reason
              reload  Make the running worker load its plugins anew
              grant   Grant a plugin what it declares, by writing it into host.toml
              stubs   Write the tasks of plugins as a module for their callers

            Options:
              -h, --help  Print help
        "#]],
    );
    check_help(
        &["plugin", "stubs"],
        expect![[r#"
        Write the tasks of plugins as a module for their callers

        Usage: host plugin stubs [OPTIONS] --python

        Options:
              --python            For Celery clients and Flower
          -o, --output <FILE>     Where to write the module [default: stdout]
              --plugins <DIR>     Folder with plugins [default: plugins]
              --config <FILE>     Configuration file [default: host.toml, if there is one]
              --set <NAME=VALUE>  Any setting by its name, such as task_acks_late=false; may
                                  be repeated. `host config --help` lists them
          -h, --help              Print help

        Examples:
          host plugin stubs --python -o taskhost_tasks.py
              Then, in Python: from taskhost_tasks import images_resize;
              images_resize.delay(url, width=100)
          celery -A taskhost_tasks -b redis://localhost flower
              Flower knows the tasks, and starts them.
    "#]],
    );
    check_help(
        &["plugin", "check"],
        expect![[r#"
            Say whether a plugin can be loaded, and which tasks it has

            Usage: host plugin check [OPTIONS] <FILE|DIR>

            Arguments:
              <FILE|DIR>  A .wasm file, or a folder with a plugin.toml

            Options:
                  --json              Print one JSON object, with each task's signature and the
                                      JSON Schema of its arguments
                  --config <FILE>     Configuration file [default: host.toml, if there is one]
                  --set <NAME=VALUE>  Any setting by its name, such as task_acks_late=false; may
                                      be repeated. `host config --help` lists them
              -h, --help              Print help

            Examples:
              host plugin check target/wasm32-wasip2/release/images.wasm
              host plugin check plugins/images
                  Exits with 1 if a worker would refuse the plugin, and says why.
        "#]],
    );
    check_help(
        &["plugin", "list"],
        expect![[r#"
            List plugins with their tasks, and those that are refused with the reason

            Usage: host plugin list [OPTIONS]

            Options:
                  --plugins <DIR>     Folder with plugins to look into, whatever a worker
                                      serves: *.wasm files, and folders with a plugin.toml
                  --json              Print one JSON object
              -n, --hostname <NODE>   Name of the worker, as it was given to `host run`
                                      [default: taskhost@%h]
                  --statedb <FILE>    Its file of state, beside which it listens [default: the
                                      name of the worker with .state.db]
                  --config <FILE>     Configuration file [default: host.toml, if there is one]
                  --set <NAME=VALUE>  Any setting by its name, such as task_acks_late=false; may
                                      be repeated. `host config --help` lists them
              -h, --help              Print help

            Examples:
              host plugin list
                  As the worker that runs here serves them, with what their tasks have used; if
                  none runs, the folder.
              host plugin list --plugins ./plugins
                  Exits with 1 if a plugin is refused.
        "#]],
    );
}

#[test]
fn help_of_purge() {
    check_help(
        &["purge"],
        expect![[r#"
            Delete all waiting messages of queues

            Usage: host purge [OPTIONS]

            Options:
              -Q, --queues <NAMES>    Queues to empty, with commas between them [default:
                                      celery]
              -f, --force             Do not ask
              -b, --broker <URL>      Where tasks are: amqp(s)://user:password@host// for
                                      RabbitMQ, redis(s)://:password@host/0, sentinel://,
                                      sqs://, sqla+postgresql://, filesystem:// or
                                      sqlite:///FILE; several with `;` stand in for each other
                                      [default: sqlite:///host.db]
                  --config <FILE>     Configuration file [default: host.toml, if there is one]
                  --set <NAME=VALUE>  Any setting by its name, such as task_acks_late=false; may
                                      be repeated. `host config --help` lists them
              -h, --help              Print help

            Examples:
              host purge -Q celery,images
                  Says how many messages wait in each queue and asks before it deletes them.
                  Tasks that a worker has already fetched are not touched.
        "#]],
    );
}

#[test]
fn help_of_dead() {
    check_help(
        &["dead"],
        expect![[r#"
        Look at messages that were kept aside because nobody could finish them

        Usage: host dead <COMMAND>

        Commands:
          list     List dead letters: task, id, why and how often it was delivered
          show     Show one dead letter with all its headers and its body
          requeue  Send dead letters back to the queue that they came from
          drop     Delete dead letters for good

        Options:
          -h, --help  Print help
    "#]],
    );
    check_help(
        &["dead", "list"],
        expect![[r#"
            List dead letters: task, id, why and how often it was delivered

            Usage: host dead list [OPTIONS]

            Options:
                  --json              Print one JSON object a line
              -Q, --queues <NAMES>    Queues whose dead letters are meant, with commas between
                                      them [default: celery]
                  --parked            Parked messages instead: those whose task no plugin has
              -b, --broker <URL>      Where tasks are: amqp(s)://user:password@host// for
                                      RabbitMQ, redis(s)://:password@host/0, sentinel://,
                                      sqs://, sqla+postgresql://, filesystem:// or
                                      sqlite:///FILE; several with `;` stand in for each other
                                      [default: sqlite:///host.db]
                  --config <FILE>     Configuration file [default: host.toml, if there is one]
                  --set <NAME=VALUE>  Any setting by its name, such as task_acks_late=false; may
                                      be repeated. `host config --help` lists them
              -h, --help              Print help

            Examples:
              host dead list -Q celery,images
                  Dead letters of a queue are in the queue of the same name with .dead behind
                  it.
              host dead list --parked
                  Messages that wait for a plugin with their task; a worker that has it takes
                  them back.
        "#]],
    );
    check_help(
        &["dead", "show"],
        expect![[r#"
            Show one dead letter with all its headers and its body

            Usage: host dead show [OPTIONS] <ID>

            Arguments:
              <ID>  Id of the task

            Options:
              -Q, --queues <NAMES>    Queues whose dead letters are meant, with commas between
                                      them [default: celery]
                  --parked            Parked messages instead: those whose task no plugin has
              -b, --broker <URL>      Where tasks are: amqp(s)://user:password@host// for
                                      RabbitMQ, redis(s)://:password@host/0, sentinel://,
                                      sqs://, sqla+postgresql://, filesystem:// or
                                      sqlite:///FILE; several with `;` stand in for each other
                                      [default: sqlite:///host.db]
                  --config <FILE>     Configuration file [default: host.toml, if there is one]
                  --set <NAME=VALUE>  Any setting by its name, such as task_acks_late=false; may
                                      be repeated. `host config --help` lists them
              -h, --help              Print help
        "#]],
    );
    check_help(
        &["dead", "requeue"],
        expect![[r#"
            Send dead letters back to the queue that they came from

            Usage: host dead requeue [OPTIONS] <ID|--all>

            Arguments:
              [ID]...  Ids of tasks

            Options:
                  --all               All of them
              -Q, --queues <NAMES>    Queues whose dead letters are meant, with commas between
                                      them [default: celery]
                  --parked            Parked messages instead: those whose task no plugin has
              -b, --broker <URL>      Where tasks are: amqp(s)://user:password@host// for
                                      RabbitMQ, redis(s)://:password@host/0, sentinel://,
                                      sqs://, sqla+postgresql://, filesystem:// or
                                      sqlite:///FILE; several with `;` stand in for each other
                                      [default: sqlite:///host.db]
                  --config <FILE>     Configuration file [default: host.toml, if there is one]
                  --set <NAME=VALUE>  Any setting by its name, such as task_acks_late=false; may
                                      be repeated. `host config --help` lists them
              -h, --help              Print help
        "#]],
    );
    check_help(
        &["dead", "drop"],
        expect![[r#"
            Delete dead letters for good

            Usage: host dead drop [OPTIONS] <ID|--all>

            Arguments:
              [ID]...  Ids of tasks

            Options:
                  --all               All of them
              -Q, --queues <NAMES>    Queues whose dead letters are meant, with commas between
                                      them [default: celery]
                  --parked            Parked messages instead: those whose task no plugin has
              -b, --broker <URL>      Where tasks are: amqp(s)://user:password@host// for
                                      RabbitMQ, redis(s)://:password@host/0, sentinel://,
                                      sqs://, sqla+postgresql://, filesystem:// or
                                      sqlite:///FILE; several with `;` stand in for each other
                                      [default: sqlite:///host.db]
                  --config <FILE>     Configuration file [default: host.toml, if there is one]
                  --set <NAME=VALUE>  Any setting by its name, such as task_acks_late=false; may
                                      be repeated. `host config --help` lists them
              -h, --help              Print help
        "#]],
    );
}

#[test]
fn help_of_config() {
    check_help(
        &["config"],
        expect![[r#"
            Show every setting in effect, and where its value came from

            Usage: host config [OPTIONS]

            Options:
                  --json
                      Print one JSON object instead of a table
                  --plugins <DIR>
                      Folder with plugins: *.wasm files, and folders with a plugin.toml
                      [default: plugins]
                  --metrics <ADDR>
                      Serve metrics for Prometheus at this address, such as 127.0.0.1:9464
              -b, --broker <URL>
                      Where tasks are: amqp(s)://user:password@host// for RabbitMQ,
                      redis(s)://:password@host/0, sentinel://, sqs://, sqla+postgresql://,
                      filesystem:// or sqlite:///FILE; several with `;` stand in for each other
                      [default: sqlite:///host.db]
              -r, --result-backend <URL>
                      Where results are: redis(s)://:password@host/0, sentinel://,
                      db+postgresql://, db+mysql://, db+sqlite:///FILE, cache+memcached://,
                      file:///DIR, rpc://, amqp:// or disabled:// [default: the broker itself,
                      or rpc:// with RabbitMQ]
              -Q, --queues <NAMES>
                      Queues to take tasks from, with commas between them [default: those of
                      [queues] in the configuration, or celery]
              -X, --exclude-queues <NAMES>
                      Of these, queues to take no tasks from, with commas between them
              -c, --concurrency <N>
                      How many tasks run at a time [default: number of CPUs]
                  --autoscale <MAX,MIN>
                      Most and fewest tasks that run at a time, such as 10,3: the number follows
                      the load
              -n, --hostname <NAME>
                      Name of this worker; %h is the name of the machine, %n the same without
                      domain, %d the domain [default: taskhost@%h]
                  --prefetch-multiplier <N>
                      Messages to fetch ahead for each task that can run at a time; 0 fetches
                      all [default: 4]
                  --time-limit <TIME>
                      Stop a task after this time, such as 90 (seconds), 5m or 1h [default:
                      none]
                  --soft-time-limit <TIME>
                      Tell a task to finish after this time; a task that does not listen is
                      stopped [default: none]
              -S, --statedb <FILE>
                      File for what this worker alone must remember, such as revoked tasks; %n
                      is its name, none keeps nothing [default: the name of the worker with
                      .state.db]
              -E, --task-events
                      Tell monitors (celery events, Flower) what happens to tasks from the
                      start; else when one asks [alias: --events]
                  --heartbeat-interval <TIME>
                      How often monitors hear that this worker lives [default: 2s]
                  --without-heartbeat
                      Do not tell monitors that this worker lives
                  --without-mingle
                      Do not ask other workers at the start what is revoked
              -l, --loglevel <LEVEL>
                      How much to log: debug, info, warning, error or critical [default: info]
                  --config <FILE>
                      Configuration file [default: host.toml, if there is one]
                  --set <NAME=VALUE>
                      Any setting by its name, such as task_acks_late=false; may be repeated.
                      `host config --help` lists them
              -h, --help
                      Print help (see more with '--help')

            Examples:
              host config
              host config -c 8 --set task_acks_late=false
                  Takes the options of `host run`, and shows what it would work with.

            A setting is looked for in this order: command line, environment (CELERY_BROKER_URL,
            CELERY_RESULT_BACKEND, HOST_TASK_ACKS_LATE, ..), host.toml, default. Passwords are
            not shown.
        "#]],
    );
}

#[test]
fn every_option_of_run_that_is_a_setting_reaches_it() {
    let words = "host run --plugins p -b b -r r -Q q -c 1 -n n --prefetch-multiplier 2 --time-limit 3 \
                 --soft-time-limit 4 -S s -l debug --set a=b --set c=d --purge";
    let Command::Run(args) = CommandLine::try_parse_from(words.split_whitespace()).unwrap().command else {
        panic!("not `run`");
    };
    let flags: Vec<String> = args.worker.flags().iter().map(|f| format!("{} {}", f.key, f.text)).collect();
    expect![[r#"
        plugins.dir p
        broker.url b
        result.backend r
        task.queues q
        worker.concurrency 1
        worker.hostname n
        worker.state_db s
        worker.prefetch_multiplier 2
        task.time_limit 3
        task.soft_time_limit 4
        log.level debug"#]]
    .assert_eq(&flags.join("\n"));
    assert_eq!(args.worker.settings.sets, ["a=b", "c=d"]);
    assert!(args.purge);
}

#[test]
fn wait_takes_a_time_only_behind_an_equals_sign() {
    let wait = |words: &str| match CommandLine::try_parse_from(words.split_whitespace()).unwrap().command {
        Command::Result(args) => (args.wait.wait, args.id),
        _ => panic!("not `result`"),
    };
    assert_eq!(wait("host result x"), (None, "x".to_owned()));
    assert_eq!(wait("host result --wait x"), (Some(WAIT_WITHOUT_END.to_owned()), "x".to_owned()));
    assert_eq!(wait("host result --wait=5s x"), (Some("5s".to_owned()), "x".to_owned()));
}

#[test]
fn help_of_status() {
    check_help(
        &["status"],
        expect![[r#"
            Show which workers are up, ours and Python's

            Usage: host status [OPTIONS]

            Options:
              -t, --timeout <TIME>       How long to wait for answers, such as 5 (seconds) or
                                         500ms [default: 1]
              -d, --destination <NODES>  Only workers with these names, with commas between them
                                         [default: all]
              -j, --json                 Print one JSON object: names of workers with their
                                         answers
              -b, --broker <URL>         Where tasks are: amqp(s)://user:password@host// for
                                         RabbitMQ, redis(s)://:password@host/0, sentinel://,
                                         sqs://, sqla+postgresql://, filesystem:// or
                                         sqlite:///FILE; several with `;` stand in for each
                                         other [default: sqlite:///host.db]
                  --config <FILE>        Configuration file [default: host.toml, if there is
                                         one]
                  --set <NAME=VALUE>     Any setting by its name, such as task_acks_late=false;
                                         may be repeated. `host config --help` lists them
              -h, --help                 Print help

            Examples:
              host status -b redis://localhost/0
                  Exits with 69 if no worker answers.
              host status
                  The embedded file cannot reach workers: asks the one that runs here, or those
                  that -d names.
        "#]],
    );
}

#[test]
fn help_of_inspect() {
    check_help(
        &["inspect"],
        expect![[r#"
            Ask workers what they have and do

            Usage: host inspect [OPTIONS] <METHOD> [ARGUMENTS]...

            Arguments:
              [METHOD]        Name of the method
              [ARGUMENTS]...  Its arguments

            Options:
                  --list                 List the methods
              -t, --timeout <TIME>       How long to wait for answers, such as 5 (seconds) or
                                         500ms [default: 1]
              -d, --destination <NODES>  Only workers with these names, with commas between them
                                         [default: all]
              -j, --json                 Print one JSON object: names of workers with their
                                         answers
              -b, --broker <URL>         Where tasks are: amqp(s)://user:password@host// for
                                         RabbitMQ, redis(s)://:password@host/0, sentinel://,
                                         sqs://, sqla+postgresql://, filesystem:// or
                                         sqlite:///FILE; several with `;` stand in for each
                                         other [default: sqlite:///host.db]
                  --config <FILE>        Configuration file [default: host.toml, if there is
                                         one]
                  --set <NAME=VALUE>     Any setting by its name, such as task_acks_late=false;
                                         may be repeated. `host config --help` lists them
              -h, --help                 Print help

            Methods:
              active
                  List of tasks currently being executed.
              active_queues
                  List the task queues a worker is currently consuming from.
              clock
                  Get current logical clock value.
              conf [include_defaults=False]
                  List configuration.
              memdump [n_samples=10]
                  Dump statistics of previous memsample requests.
              memsample
                  Sample current RSS memory usage.
              objgraph [object_type=Request] [num=200 [max_depth=10]]
                  Create graph of uncollected objects (memory-leak debugging).
              ping
                  Ping worker(s).
              query_task [id1 [id2 [... [idN]]]]
                  Query for task information by id.
              registered [attr1 [attr2 [... [attrN]]]]
                  List of registered tasks.
              report
                  Information about the worker for bug reports.
              reserved
                  List of currently reserved tasks, not including scheduled/active.
              revoked
                  List of revoked task-ids.
              scheduled
                  List of currently scheduled ETA/countdown tasks.
              stats
                  Request worker statistics/information.

            Examples:
              host inspect active -b redis://localhost/0
              host inspect query_task 7b1f5a52-3c5e-4d8c-9a43-0a4a1f0f6d2b --json

            Exits with 69 if no worker answers, and with 1 if one answers that it could not.
        "#]],
    );
}

#[test]
fn help_of_control() {
    check_help(
        &["control"],
        expect![[r#"
            Tell workers what to do from now on

            Usage: host control [OPTIONS] <METHOD> [ARGUMENTS]...

            Arguments:
              [METHOD]        Name of the method
              [ARGUMENTS]...  Its arguments

            Options:
                  --list                 List the methods
              -t, --timeout <TIME>       How long to wait for answers, such as 5 (seconds) or
                                         500ms [default: 1]
              -d, --destination <NODES>  Only workers with these names, with commas between them
                                         [default: all]
              -j, --json                 Print one JSON object: names of workers with their
                                         answers
              -b, --broker <URL>         Where tasks are: amqp(s)://user:password@host// for
                                         RabbitMQ, redis(s)://:password@host/0, sentinel://,
                                         sqs://, sqla+postgresql://, filesystem:// or
                                         sqlite:///FILE; several with `;` stand in for each
                                         other [default: sqlite:///host.db]
                  --config <FILE>        Configuration file [default: host.toml, if there is
                                         one]
                  --set <NAME=VALUE>     Any setting by its name, such as task_acks_late=false;
                                         may be repeated. `host config --help` lists them
              -h, --help                 Print help

            Methods:
              add_consumer <queue> [exchange [type [routing_key]]]
                  Tell worker(s) to consume from task queue by name.
              autoscale [max [min]]
                  Modify autoscale settings.
              cancel_consumer <queue>
                  Tell worker(s) to stop consuming from task queue by name.
              disable_events
                  Tell worker(s) to stop sending task-related events.
              election
                  Hold election.
              enable_events
                  Tell worker(s) to send task-related events.
              heartbeat
                  Tell worker(s) to send event heartbeat immediately.
              pause_queue <queue>
                  Take no more tasks from a queue, and keep it. (not in Python's)
              pool_grow [N=1]
                  Let n more tasks run at a time.
              pool_restart
                  Load plugins that have changed.
              pool_shrink [N=1]
                  Let n fewer tasks run at a time.
              quiet
                  Take no more tasks, finish what is here, and stay up. (not in Python's)
              rate_limit <task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>
                  Tell worker(s) to modify the rate limit for a task by type.
              resume_queue <queue>
                  Take tasks again from a queue that was paused. (not in Python's)
              revoke [id1 [id2 [... [idN]]]]
                  Revoke task by task id (or list of ids).
              revoke_by_stamped_headers [key1=value1 [key2=value2 [... [keyN=valueN]]]]
                  Revoke task by header (or list of headers).
              shutdown
                  Shutdown worker(s).
              terminate <signal> [id1 [id2 [... [idN]]]]
                  Terminate task by task id (or list of ids).
              time_limit <task_name> <soft_secs> [hard_secs]
                  Tell worker(s) to modify the time limit for task by type.
              unquiet
                  Take tasks again after `quiet`. (not in Python's)
              unrevoke [id1 [id2 [... [idN]]]]
                  Let tasks run that were revoked; their results say REVOKED until they have.
                  (not in Python's)

            Examples:
              host control rate_limit images.resize 10/m -b redis://localhost/0
              host control pause_queue images -d images@box1,images@box2

            Exits with 69 if no worker answers, and with 1 if one answers that it could not.
        "#]],
    );
}

#[test]
fn help_of_events() {
    check_help(
        &["events"],
        expect![[r#"
            Show what happens to workers and tasks, as it happens

            Usage: host events [OPTIONS]

            Options:
              -d, --dump              Print one line for people for each event; this is so
                                      without it, too
              -j, --json              Print each event as one line of JSON
              -E, --enable            Tell all workers first to send events of tasks, as `host
                                      control enable_events` does
              -b, --broker <URL>      Where tasks are: amqp(s)://user:password@host// for
                                      RabbitMQ, redis(s)://:password@host/0, sentinel://,
                                      sqs://, sqla+postgresql://, filesystem:// or
                                      sqlite:///FILE; several with `;` stand in for each other
                                      [default: sqlite:///host.db]
                  --config <FILE>     Configuration file [default: host.toml, if there is one]
                  --set <NAME=VALUE>  Any setting by its name, such as task_acks_late=false; may
                                      be repeated. `host config --help` lists them
              -h, --help              Print help

            Examples:
              host events -b amqp://guest:guest@localhost//
                  Workers always tell that they are up, and of tasks only if they were started
                  with -E or told so.
              host events -E --json | jq 'select(.type == "task-failed")'
                  Ctrl-C ends it.
        "#]],
    );
}

#[test]
fn help_of_plugin_run() {
    check_help(
        &["plugin", "run"],
        expect![[r#"
            Run one task of a plugin here, with no broker and no worker

            Usage: host plugin run [OPTIONS] <FILE|DIR> <TASK> [ARG]...

            Arguments:
              <FILE|DIR>  A .wasm file, or a folder with a plugin.toml
              <TASK>      Name of the task, such as images.resize
              [ARG]...    Arguments: JSON, or else text; NAME=VALUE is a keyword argument, and -
                          is what stdin has

            Options:
              -a, --args <JSON>             Positional arguments before those: a JSON array
                                            [default: []]
              -k, --kwargs <JSON>           Keyword arguments beside those: a JSON object
                                            [default: {}]
                  --json                    Print one JSON object instead: state, result,
                                            traceback, retries, states, calls, events, usage
                  --wait                    Wait for countdowns, ETAs and delays of retries;
                                            without it nothing waits
                  --no-follow               Only show which tasks it calls, even if the plugin
                                            has them
                  --grant <OPTION=ENTRY>    Grant this besides what host.toml grants, such as
                                            config=region=eu; may be repeated
                  --time-limit <TIME>       Stop a task after this time, such as 90 (seconds),
                                            5m or 1h [default: none]
                  --soft-time-limit <TIME>  Tell a task to finish after this time; a task that
                                            does not listen is stopped [default: none]
              -l, --loglevel <LEVEL>        How much to log: debug, info, warning, error or
                                            critical [default: info]
                  --config <FILE>           Configuration file [default: host.toml, if there is
                                            one]
                  --set <NAME=VALUE>        Any setting by its name, such as
                                            task_acks_late=false; may be repeated. `host config
                                            --help` lists them
              -h, --help                    Print help

            Examples:
              host plugin run plugins/images images.resize in/cat.png 80 format=webp
                  Prints the result; logs, states, calls and what was used go to stderr.
              host plugin run tasks.wasm tasks.add --args '[2, 2]'
              host plugin run tasks.wasm tasks.echo '"80"' note='"a=b"'
                  A text that looks like JSON, or like a keyword, is written as JSON.
              host plugin run tasks.wasm tasks.index - --grant fs=/in=./data < page.html

            Sandbox, limits and grants are those of a worker, from host.toml; broker, results
            and values are in memory. A plugin without [grants.NAME] there has what stays in
            memory: publish, results, keyvalue and scratch.

            Exit codes: 0 the task succeeded, ignored its message, or was replaced by a task of
            another plugin, 1 it failed or was rejected, 2 wrong options, 130 interrupted.
        "#]],
    );
}

#[test]
fn help_of_plugin_test() {
    check_help(
        &["plugin", "test"],
        expect![[r#"
            Run the cases of a plugin: calls with what is to come of them

            Usage: host plugin test [OPTIONS] [DIR|FILE]

            Arguments:
              [DIR|FILE]  A folder with a plugin.toml, or a .wasm file [default: .]

            Options:
                  --cases <FILE>            File with the cases, a JSON object a line [default:
                                            cases.jsonl beside the plugin]
                  --filter <TEXT>           Only cases whose name or task has this text in it
                  --grant <OPTION=ENTRY>    Grant this besides what host.toml grants, such as
                                            config=region=eu; may be repeated
                  --time-limit <TIME>       Stop a task after this time, such as 90 (seconds),
                                            5m or 1h [default: none]
                  --soft-time-limit <TIME>  Tell a task to finish after this time; a task that
                                            does not listen is stopped [default: none]
              -l, --loglevel <LEVEL>        How much to log: debug, info, warning, error or
                                            critical [default: info]
                  --config <FILE>           Configuration file [default: host.toml, if there is
                                            one]
                  --set <NAME=VALUE>        Any setting by its name, such as
                                            task_acks_late=false; may be repeated. `host config
                                            --help` lists them
              -h, --help                    Print help

            Examples:
              host plugin test
                  Runs the cases of the plugin in this folder. Exits with 1 if one fails.
              host plugin test plugins/images --filter resize -l debug

            A case is one line, with a task and what is to come of it; all else may be left out:
              {"name": "adds", "task": "tasks.add", "args": [1, 2], "result": 3}
              {"task": "tasks.add", "kwargs": {"x": 1}, "error": "TypeError"}
              {"task": "tasks.get", "error": {"type": "KeyError", "message": "no such"}}
              {"task": "tasks.index", "retries": 1, "states": ["PROGRESS", "DONE"]}
                  What the task reports; {"state": "PROGRESS", "meta": {..}} compares more.
              {"task": "tasks.crawl", "publishes": [{"task": "a.b", "queue": "slow"}]}
                  What it calls; a call is run if the plugin has it and there is no "follow":
                  false.
              {"task": "tasks.x", "state": "REJECTED"}
                  Or IGNORED, or REPLACED by a task of another plugin.
              {"task": "tasks.y", "config": {"region": "eu"}, "secrets": {"key": "sesame"}}
                  Granted for this case; so is "grant": {"fs": ["/in=testdata"]}, from this
                  folder.
            Numbers are compared as numbers, objects in any order, messages by a part of them.
            Nothing waits. Empty lines, and lines that begin with # or //, are passed over.
        "#]],
    );
}

#[test]
fn help_of_plugin_new() {
    check_help(
        &["plugin", "new"],
        expect![[r#"
        Make a folder with a new plugin to start from

        Usage: host plugin new --lang <rust|python|js|go|c> <NAME>

        Arguments:
          <NAME>  Name of the plugin, such as images, or the folder to make, such as
                  plugins/images

        Options:
          -l, --lang <rust|python|js|go|c>  What it is written in
          -h, --help                        Print help

        Examples:
          host plugin new --lang python images
              Makes the folder images with two tasks, their tests and the SDK, and says what
              to type next.
          host plugin new --lang js plugins/webhooks
              TypeScript and JavaScript are one language here.
    "#]],
    );
}

#[test]
fn help_of_plugin_build() {
    check_help(
        &["plugin", "build"],
        expect![[r#"
        Make the component of a plugin from its sources, and check it

        Usage: host plugin build [OPTIONS] [DIR]

        Arguments:
          [DIR]  Folder with a plugin.toml [default: .]

        Options:
              --config <FILE>     Configuration file [default: host.toml, if there is one]
              --set <NAME=VALUE>  Any setting by its name, such as task_acks_late=false; may
                                  be repeated. `host config --help` lists them
          -h, --help              Print help

        Examples:
          host plugin build
              Uses the tools of the plugin's language, and says how to install what is
              missing.
          host plugin build plugins/images
              Puts the component beside plugin.toml in one step: a worker that runs takes it
              at once.
    "#]],
    );
}
