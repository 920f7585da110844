//! Measures workers: each drains the same backlog from the same servers, one after the other.

use std::io::{Write, stdout};
use std::process::ExitCode;

use crate::drain::{self, Slope};
use crate::lane::{self, Lane, Results, Setting, Who};
use crate::process::{self, Process};
use crate::services::Services;
use crate::table::{Spread, decimal, grouped};
use crate::{Result, WorkerArgs, contender, versions};

/// What was measured in one lane, round after round.
struct Row {
    lane: Lane,
    tasks: u64,
    slopes: Vec<Slope>,
    problems: Vec<String>,
}

/// Measures and prints. Trouble in one lane does not keep the others from being measured, but fails the command.
pub(crate) async fn measure(args: &WorkerArgs) -> Result<ExitCode> {
    let mut rows = rows(args)?;
    let mut services = Services::connect(args).await?;
    let mut loads = Vec::new();
    for round in 1..=args.rounds {
        for row in &mut rows {
            let load = process::load();
            loads.extend(load);
            let Row { lane, tasks, .. } = *row;
            let at = format!("round {round}/{}: {lane}", args.rounds);
            match run(lane, tasks, args, &mut services).await {
                Ok((slope, problems)) => {
                    let verdict = verdict(&problems, "all tasks accounted for");
                    eprintln!(
                        "bench: {at}: {}/s, {} µs, {verdict} (load {})",
                        grouped(slope.tasks_per_second),
                        decimal(slope.worker_us),
                        decimal(load)
                    );
                    row.slopes.push(slope);
                    row.problems.extend(problems);
                }
                Err(error) => {
                    eprintln!("bench: {at}: {error}");
                    row.problems.push(error.to_string().lines().next().unwrap_or_default().to_owned());
                }
            }
        }
    }
    print(args, &services, &rows, Spread::of(loads))?;
    let well = rows.iter().all(|row| row.problems.is_empty());
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn rows(args: &WorkerArgs) -> Result<Vec<Row>> {
    let lanes = lane::all();
    let names: Vec<String> = lanes.iter().map(Lane::to_string).collect();
    if let Some(unknown) = args.only.iter().find(|wanted| !names.iter().any(|name| name.contains(*wanted))) {
        return Err(format!("no lane is called `{unknown}`; there are: {}", names.join(", ")).into());
    }
    let mut rows = Vec::new();
    for (lane, name) in lanes.into_iter().zip(names) {
        let wanted = args.only.is_empty() || args.only.iter().any(|wanted| name.contains(wanted));
        if !wanted || lane.who == Who::Celery && args.python.is_none() {
            continue;
        }
        let asked = if lane.who == Who::Celery { args.celery_tasks } else { args.tasks };
        let tasks = asked.unwrap_or_else(|| lane.tasks());
        rows.push(Row { lane, tasks, slopes: Vec::new(), problems: Vec::new() });
    }
    Ok(rows)
}

async fn run(lane: Lane, tasks: u64, args: &WorkerArgs, services: &mut Services) -> Result<(Slope, Vec<String>)> {
    let folder = tempfile::tempdir()?;
    services.fill(lane.setting, tasks, folder.path()).await?;
    let mut worker = Process::start(&mut contender::command(lane, args, folder.path())?, folder.path())?;
    let slope = drain::watch(&mut worker, services, lane.setting, tasks).await?;
    if lane.setting.results == Results::Ignored {
        // All are taken, not yet done, and a worker that stops gives back what it has not begun.
        drain::wait_until_idle(&worker).await;
    }
    // What is not acknowledged now goes back to the queue.
    let stopped = worker.stop();
    let left = services.problem(lane.setting, tasks).await?;
    let problems: Vec<String> = stopped.err().map(|error| error.to_string()).into_iter().chain(left).collect();
    Ok((slope, problems))
}

fn print(args: &WorkerArgs, services: &Services, rows: &[Row], load: Spread) -> Result<()> {
    let mut out = stdout();
    writeln!(out, "{}; {}", versions::machine(), versions::programs(args))?;
    writeln!(out, "{}; load {:.1} to {:.1}", services.versions, load.min, load.max)?;
    writeln!(
        out,
        "no-op tasks, persistent messages, prefetch {}, host with -c {}; median of {} rounds, slopes from 10 to 90 % \
         of the backlog; Celery acknowledges early, the others late",
        args.prefetch, args.concurrency, args.rounds
    )?;
    writeln!(
        out,
        "{:<26} {:>7} {:>8} {:>17} {:>9} {:>8} {:>9} {:>12} {:>8}  check",
        "", "tasks", "tasks/s", "(min–max)", "worker µs", "of bare", "× Celery", "RabbitMQ µs", "Redis µs"
    )?;
    let mut shown: Option<Setting> = None;
    for row in rows {
        let Lane { who, setting, .. } = row.lane;
        if shown != Some(setting) {
            writeln!(out, "{setting}")?;
            shown = Some(setting);
        }
        let rate = rate(row);
        let relative = |to: Who| {
            let to =
                rows.iter().find(|row| (row.lane.who, row.lane.setting) == (to, setting) && row.lane.who != who)?;
            Some(rate.median / self::rate(to).median).filter(|ratio| ratio.is_finite())
        };
        let median = |of: fn(&Slope) -> Option<f64>| {
            let values: Vec<f64> = row.slopes.iter().filter_map(of).collect();
            decimal((!values.is_empty()).then(|| Spread::of(values).median))
        };
        let dash = || "–".to_owned();
        let known = |text: String| if row.slopes.is_empty() { dash() } else { text };
        writeln!(
            out,
            "  {:<24} {:>7} {:>8} {:>17} {:>9} {:>8} {:>9} {:>12} {:>8}  {}",
            who.title(setting.broker),
            grouped(row.tasks as f64),
            known(grouped(rate.median)),
            known(format!("{}–{}", grouped(rate.min), grouped(rate.max))),
            median(|slope| slope.worker_us),
            relative(Who::Bare).map_or_else(dash, |ratio| format!("{:.0} %", ratio * 100.0)),
            relative(Who::Celery).map_or_else(dash, |ratio| format!("{ratio:.1}")),
            median(|slope| slope.rabbitmq_us),
            median(|slope| slope.redis_us),
            match relative(Who::Host).filter(|_| who == Who::Events) {
                Some(ratio) => verdict(&row.problems, &format!("ok, {:.0} % of the host without", ratio * 100.0)),
                None => verdict(&row.problems, "ok"),
            }
        )?;
    }
    Ok(())
}

fn verdict(problems: &[String], good: &str) -> String {
    if problems.is_empty() { good.to_owned() } else { problems.join("; ") }
}

fn rate(row: &Row) -> Spread {
    Spread::of(row.slopes.iter().map(|slope| slope.tasks_per_second))
}
