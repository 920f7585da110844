//! What the dispatcher does when plugins change or go wrong: what waits moves to the new version, some attempts
//! try it out, and what a plugin in quarantine cannot run is parked.
//!
//! When that is so is the business of [`crate::breaker`] and [`crate::rollout`].

use std::sync::Arc;

use crate::breaker::{Passage, Turned};
use crate::builtin::{self, Builtin};
use crate::catalog::Catalog;
use crate::message::{HeaderValue, VERSION_HEADER};
use crate::name::PluginName;
use crate::outcome::{Attempt, DeliveryId, Outcome};
use crate::request::Request;
use crate::rollout::Verdict;
use crate::settle::Refusal;
use crate::task::{PluginVersion, TaskSpec};
use crate::timestamp::Timestamp;

use super::identity::Identity;
use super::stage::{Due, Parked, Stage, Work};
use super::{Action, Dispatcher, PluginEvent};

/// The version on which a retry is to run, if it says so and its task still wants that.
pub(super) fn pinned(work: &Work) -> Option<PluginVersion> {
    if !work.spec.options.pin_retries {
        return None;
    }
    match work.request.message.headers.get(VERSION_HEADER) {
        Some(HeaderValue::Text(version)) => Some(PluginVersion::of(version)),
        _ => None,
    }
}

impl Dispatcher {
    /// True if tasks of this plugin are parked now, although it has them.
    pub fn is_quarantined(&self, spec: &TaskSpec) -> bool {
        self.breakers.is_open(spec)
    }

    pub(super) fn change_catalog(&mut self, catalog: Arc<Catalog>, now: Timestamp, actions: &mut Vec<Action>) {
        self.once_served.extend(catalog.tasks().map(|spec| spec.name.clone()));
        for (plugin, until) in self.trials.begin(&catalog, now) {
            self.timetable.insert(until, Due::Trial(plugin));
        }
        for spec in catalog.tasks() {
            let limit = spec.options.rate_limit.unwrap_or(self.limits.task.rate_limit);
            let before = self.catalog.get(&spec.name).map(|spec| spec.options.rate_limit);
            // What an operator changed by hand stays.
            if before.is_some_and(|before| before.unwrap_or(self.limits.task.rate_limit) != limit)
                && !self.rates.contains_key(&spec.name)
            {
                self.gates.change_rate(&spec.name, limit, now);
            }
        }
        let served: Vec<_> = catalog.tasks().map(|spec| (&spec.plugin, &spec.version)).collect();
        let rollouts: Vec<_> = catalog.rollouts().map(|(plugin, rollout)| (plugin, &rollout.version)).collect();
        self.breakers
            .retain(|plugin, version| served.contains(&(plugin, version)) || rollouts.contains(&(plugin, version)));
        self.catalog = catalog;
        // The limit that they wait for may be another one.
        for delivery in self.crowds.forget_waiting().into_iter().rev() {
            self.ready_again(delivery);
        }
        actions.push(Action::BringHome { plugin: None, at_most: None });
    }

    /// The way of a delivery that has a slot onto the version that it runs on. None if there is none now.
    pub(super) fn choose_version(
        &mut self,
        delivery: DeliveryId,
        mut work: Work,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) -> Option<(Work, Passage)> {
        let Some(current) = self.catalog.get(&work.request.task) else {
            self.leave_gates(delivery, &mut work, now);
            self.unknown(delivery, Box::new(Arc::unwrap_or_clone(work.request)), now, actions);
            return None;
        };
        let candidate = match self.catalog.is_settled() {
            true => None,
            false => self.catalog.candidate(&work.request.task),
        };
        let spec = match candidate {
            Some(candidate)
                if self.trials.takes(&candidate.plugin, self.chance.next())
                    && self.breakers.passage(candidate) == Passage::Free =>
            {
                candidate
            }
            _ => current,
        };
        if !Arc::ptr_eq(spec, &work.spec) {
            work.spec = spec.clone();
            work.policy = self.limits.task.policy(&work.request, &work.spec.options);
        }
        let ran = self.ran_by(&work.request, &work.spec);
        let passage = ran.map_or(Passage::Free, |spec| self.breakers.passage(spec));
        if passage == Passage::Closed {
            let plugin = ran.unwrap_or(&work.spec).plugin.clone();
            self.leave_gates(delivery, &mut work, now);
            let identity = Identity::of(&work.request);
            let refusal = Refusal::Quarantined(Arc::unwrap_or_clone(work.request), plugin);
            self.refuse(delivery, Some(identity), refusal, now, actions);
            return None;
        }
        Some((work, passage))
    }

    /// The task whose plugin runs, and shows by it how it is: another one than was called, if that calls it itself.
    /// None, if no plugin runs.
    pub(super) fn ran_by<'a>(&'a self, request: &Request, spec: &'a Arc<TaskSpec>) -> Option<&'a Arc<TaskSpec>> {
        match Builtin::of(spec) {
            None => Some(spec),
            Some(Builtin::Map | Builtin::Starmap) => {
                self.catalog.get(&builtin::mapped_task(request)?).filter(|spec| Builtin::of(spec).is_none())
            }
            Some(_) => None,
        }
    }

    /// True if its plugin runs as many as it may.
    pub(super) fn must_wait_for_others(&mut self, delivery: DeliveryId, work: &Work) -> bool {
        let limit = work.spec.plugin_concurrency;
        limit.is_some_and(|limit| !self.crowds.enter(&work.spec.plugin, limit.get(), delivery))
    }

    /// To the head of the line: it has been there before.
    pub(super) fn ready_again(&mut self, delivery: DeliveryId) {
        if let Some(work) = self.take_waiting(delivery) {
            self.track(delivery, Stage::Ready(work));
            self.ready.push_front(delivery);
        }
    }

    /// What the end of an attempt says about its plugin.
    pub(super) fn judge(&mut self, attempt: &Attempt, outcome: &Outcome, now: Timestamp, actions: &mut Vec<Action>) {
        let called;
        let spec = match Builtin::of(&attempt.spec) {
            None => &attempt.spec,
            Some(_) => {
                let Some(spec) = self.ran_by(&attempt.request, &attempt.spec).cloned() else { return };
                called = spec;
                &called
            }
        };
        // What ran on another version says nothing about this one.
        if attempt.pinned.as_ref().is_some_and(|pinned| *pinned != spec.version) {
            return;
        }
        let verdict = outcome.verdict();
        if let Some(verdict) = verdict.and_then(|failed| self.trials.finished(spec, failed)) {
            actions.push(Action::Plugin(PluginEvent::Judged(verdict)));
        }
        let violated = verdict.map(|_| outcome.violation().is_some());
        let Some(turned) = self.breakers.finished(spec, attempt.id, violated, now) else { return };
        let (plugin, version) = (spec.plugin.clone(), spec.version.clone());
        match turned {
            Turned::Open { first } => {
                if let Some(verdict) = self.trials.tripped(spec) {
                    actions.push(Action::Plugin(PluginEvent::Judged(verdict)));
                }
                let Some(rule) = self.breakers.rule() else { return };
                self.timetable.insert(now + rule.pause, Due::Breaker(plugin.clone(), version.clone()));
                actions.push(Action::Plugin(PluginEvent::Quarantined { plugin, version, rule, first }));
            }
            Turned::Closed => {
                actions.push(Action::BringHome { plugin: Some(plugin.clone()), at_most: None });
                actions.push(Action::Plugin(PluginEvent::Recovered { plugin, version }));
            }
        }
    }

    pub(super) fn half_open(&mut self, plugin: PluginName, version: PluginVersion, actions: &mut Vec<Action>) {
        if self.breakers.half_open(&plugin, &version) {
            // One is enough to show how it is.
            actions.push(Action::BringHome { plugin: Some(plugin.clone()), at_most: Some(1) });
            actions.push(Action::Plugin(PluginEvent::HalfOpen { plugin, version }));
        }
    }

    /// A message lies in its parked queue now. What it waits for may have come while it was on its way there, and
    /// whoever brought the others home then did not find it.
    pub(super) fn parked(&self, parked: &Parked, actions: &mut Vec<Action>) {
        let spec = match parked {
            Parked::Unknown(task) => self.catalog.get(task),
            Parked::Quarantine(plugin) => self.catalog.tasks().find(|spec| spec.plugin == *plugin),
        };
        let Some(spec) = spec else { return };
        let at_most = match self.breakers.passage(spec) {
            Passage::Closed => return,
            Passage::Trial => Some(1),
            Passage::Free => None,
        };
        actions.push(Action::BringHome { plugin: Some(spec.plugin.clone()), at_most });
    }

    pub(super) fn end_trial(&mut self, plugin: &PluginName, now: Timestamp, actions: &mut Vec<Action>) {
        let verdict: Option<Verdict> = self.trials.due(plugin, now);
        actions.extend(verdict.map(|verdict| Action::Plugin(PluginEvent::Judged(verdict))));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::breaker::BreakerRule;
    use crate::catalog::{Rollout, RolloutTerms};
    use crate::dispatcher::fixture::{limits, request, spec};
    use crate::dispatcher::tests::{Bench, NOW, at, committed, finished, received, success};
    use crate::dispatcher::{Input, Limits};
    use crate::outcome::Trap;
    use crate::protocol::content::Json;
    use crate::task::TaskOptions;

    const RULE: BreakerRule =
        BreakerRule { violations: 2, window: Duration::from_secs(10), pause: Duration::from_secs(30) };

    fn version(version: &str, task: &str) -> TaskSpec {
        TaskSpec { version: PluginVersion::of(version), ..spec(task, TaskOptions::default()) }
    }

    fn change(tasks: impl IntoIterator<Item = TaskSpec>) -> Input {
        Input::CatalogChanged(Arc::new(Catalog::new(tasks)))
    }

    fn bench(concurrency: usize) -> Bench {
        let limits = Limits { quarantine: Some(RULE), look_up: false, ..limits(concurrency) };
        Bench(Dispatcher::new(limits, Arc::new(Catalog::new([version("a", "tasks.add")])), 1))
    }

    fn started(bench: &mut Bench, now: Timestamp, input: Input) -> Vec<String> {
        let started = |action| match action {
            Action::Start(attempt) => Some(format!("{} on {}", attempt.delivery.0, attempt.spec.version)),
            _ => None,
        };
        bench.0.handle(input, now).into_iter().filter_map(started).collect()
    }

    #[test]
    fn what_waits_runs_on_the_new_version_and_what_runs_stays_where_it_is() {
        let mut bench = bench(1);
        assert_eq!(started(&mut bench, NOW, received(1, "tasks.add", "a")), ["1 on a"]);
        assert_eq!(started(&mut bench, NOW, received(2, "tasks.add", "b")), [""; 0]);
        bench.step(NOW, change([version("b", "tasks.add")]), "bring home all");
        assert_eq!(started(&mut bench, NOW, success(1)), ["2 on b"]);
    }

    #[test]
    fn what_waits_for_a_task_that_is_gone_is_parked_and_comes_home_with_it() {
        let mut bench = bench(1);
        bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1");
        bench.step(NOW, received(2, "tasks.add", "b"), "");
        bench.step(NOW, change([]), "bring home all");
        bench.step(NOW, success(1), "commit 1: SUCCESS, ack; commit 2: shelve in celery.parked, ack");
        bench.step(NOW, received(3, "tasks.add", "c"), "commit 3: shelve in celery.parked, ack");
        bench.step(NOW, change([version("b", "tasks.add")]), "bring home all");
        bench.step(NOW, received(4, "tasks.add", "d"), "start 4 as 2");
    }

    #[test]
    fn a_plugin_that_traps_again_and_again_is_left_alone_for_a_while() {
        let trap = |attempt| finished(attempt, Outcome::Trapped(Trap::StackOverflow));
        let mut bench = bench(3);
        for delivery in 1..=3 {
            let id = format!("t-{delivery}");
            bench.step(NOW, received(delivery, "tasks.add", &id), &format!("start {delivery} as {delivery}"));
        }
        bench.step(NOW, trap(1), "commit 1: FAILURE, ack");
        bench.step(NOW, trap(2), "quarantine a first=true; commit 2: FAILURE, ack; wake at 30000");
        bench.step(NOW, received(4, "tasks.add", "t-4"), "commit 4: shelve in celery.parked, ack");
        bench.step(NOW, success(3), "commit 3: SUCCESS, ack");
        bench.step(at(30_000), Input::Due, "bring home demo at most 1; half open a");
        bench.step(at(30_000), received(5, "tasks.add", "t-5"), "start 5 as 4");
        bench.step(at(30_000), received(6, "tasks.add", "t-6"), "commit 6: shelve in celery.parked, ack");
        bench.step(at(31_000), trap(4), "quarantine a first=false; commit 5: FAILURE, ack; wake at 61000");
        bench.step(at(61_000), Input::Due, "bring home demo at most 1; half open a");
        bench.step(at(61_000), received(7, "tasks.add", "t-7"), "start 7 as 5");
        bench.step(at(61_000), success(5), "bring home demo; recovered a; commit 7: SUCCESS, ack");
        bench.step(at(61_000), received(8, "tasks.add", "t-8"), "start 8 as 6");
    }

    #[test]
    fn what_was_on_its_way_to_be_parked_when_its_time_came_is_brought_home() {
        let trap = |attempt| finished(attempt, Outcome::Trapped(Trap::StackOverflow));
        let mut bench = bench(2);
        bench.step(NOW, received(1, "tasks.add", "t-1"), "start 1 as 1");
        bench.step(NOW, received(2, "tasks.add", "t-2"), "start 2 as 2");
        bench.step(NOW, trap(1), "commit 1: FAILURE, ack");
        bench.step(NOW, trap(2), "quarantine a first=true; commit 2: FAILURE, ack; wake at 30000");
        for delivery in 3..=5 {
            let shelved = format!("commit {delivery}: shelve in celery.parked, ack");
            bench.step(NOW, received(delivery, "tasks.add", &format!("t-{delivery}")), &shelved);
        }
        bench.step(NOW, committed(3), "");
        bench.step(at(30_000), Input::Due, "bring home demo at most 1; half open a");
        bench.step(at(30_000), committed(4), "bring home demo at most 1");
        bench.step(at(30_000), received(6, "tasks.add", "t-6"), "start 6 as 3");
        bench.step(at(30_000), received(7, "tasks.add", "t-7"), "commit 7: shelve in celery.parked, ack");
        bench.step(at(30_000), committed(7), "");
        bench.step(at(30_000), success(3), "bring home demo; recovered a; commit 6: SUCCESS, ack");
        bench.step(at(30_000), committed(5), "bring home demo");

        bench.step(at(30_000), change([]), "bring home all");
        bench.step(at(30_000), received(8, "tasks.add", "t-8"), "commit 8: shelve in celery.parked, ack");
        bench.step(at(30_000), change([version("a", "tasks.add")]), "bring home all");
        bench.step(at(30_000), committed(8), "bring home demo");
    }

    #[test]
    fn what_a_mapped_task_does_tells_about_its_plugin() {
        let catalog = Catalog::new([version("a", "tasks.add")]).with_builtins(builtin::specs(Duration::from_secs(1)));
        let limits = Limits { quarantine: Some(RULE), look_up: false, ..limits(4) };
        let mut bench = Bench(Dispatcher::new(limits, Arc::new(catalog), 1));
        let map = |delivery, id: &str, of: &str| {
            let mut request = request("celery.map", id);
            request.args = Json::array([Json::object([("task", of)]), Json::empty_list()]);
            Input::Received(DeliveryId(delivery), Ok(Box::new(request)))
        };
        let trap = |attempt| finished(attempt, Outcome::Trapped(Trap::StackOverflow));
        bench.step(NOW, map(1, "t-1", "tasks.add"), "start 1 as 1");
        bench.step(NOW, map(2, "t-2", "tasks.add"), "start 2 as 2");
        bench.step(NOW, map(3, "t-3", "tasks.other"), "start 3 as 3");
        bench.step(NOW, trap(1), "commit 1: FAILURE, ack");
        bench.step(NOW, trap(2), "quarantine a first=true; commit 2: FAILURE, ack; wake at 30000");
        bench.step(NOW, map(4, "t-4", "tasks.add"), "commit 4: shelve in celery.parked, ack");
        bench.step(NOW, map(5, "t-5", "tasks.other"), "start 5 as 4");
        bench.step(NOW, received(6, "celery.ping", "t-6"), "start 6 as 5");
        bench.step(NOW, success(5), "commit 6: SUCCESS, ack");
        bench.step(at(30_000), Input::Due, "bring home demo at most 1; half open a");
        bench.step(at(30_000), map(7, "t-7", "tasks.add"), "start 7 as 6");
        bench.step(at(30_000), received(8, "tasks.add", "t-8"), "commit 8: shelve in celery.parked, ack");
        bench.step(at(30_000), success(6), "bring home demo; recovered a; commit 7: SUCCESS, ack");
    }

    #[test]
    fn a_new_version_ends_the_quarantine() {
        let mut bench = bench(2);
        for delivery in 1..=2 {
            bench.0.handle(received(delivery, "tasks.add", &format!("t-{delivery}")), NOW);
            bench.0.handle(finished(delivery, Outcome::Trapped(Trap::StackOverflow)), NOW);
        }
        assert!(bench.0.is_quarantined(&version("a", "tasks.add")));
        bench.step(NOW, change([version("b", "tasks.add")]), "bring home all");
        bench.step(NOW, received(3, "tasks.add", "t-3"), "start 3 as 3");
    }

    fn on_trial(percent: f64) -> Input {
        let terms = RolloutTerms { percent, period: Duration::from_secs(60), max_failure_rate: 0.5 };
        let mut catalog = Catalog::new([version("a", "tasks.add")]);
        let tried = version("b", "tasks.add");
        catalog.try_out(tried.plugin.clone(), Rollout { version: tried.version.clone(), terms }, [tried]);
        Input::CatalogChanged(Arc::new(catalog))
    }

    #[test]
    fn a_share_of_attempts_tries_the_new_version_until_it_has_shown_itself() {
        let mut bench = bench(1);
        bench.step(NOW, on_trial(20.0), "bring home all; wake at 60000");
        let mut tried = 0;
        for n in 1..=500 {
            let lines = started(&mut bench, NOW, received(n, "tasks.add", &format!("t-{n}")));
            tried += usize::from(lines[0].ends_with("on b"));
            bench.0.handle(success(n), NOW);
            bench.0.handle(committed(n), NOW);
        }
        assert!((60..=140).contains(&tried), "{tried} of 500 at 20 %");
        bench.step(at(60_000), Input::Due, &format!("b promoted=true 0/{tried}"));
    }

    #[test]
    fn a_version_on_trial_that_breaks_is_taken_back_at_once() {
        let mut bench = bench(2);
        bench.0.handle(on_trial(100.0), NOW);
        bench.0.handle(received(1, "tasks.add", "t-1"), NOW);
        bench.0.handle(received(2, "tasks.add", "t-2"), NOW);
        bench.0.handle(finished(1, Outcome::Trapped(Trap::StackOverflow)), NOW);
        let trapped = finished(2, Outcome::Trapped(Trap::StackOverflow));
        bench.step(
            NOW,
            trapped,
            "b promoted=false 2/2; quarantine b first=true; commit 2: FAILURE, ack; wake at 30000",
        );
        assert_eq!(started(&mut bench, NOW, received(3, "tasks.add", "t-3")), ["3 on a"]);
    }

    #[test]
    fn a_retry_stays_on_its_version_if_its_task_wants_that() {
        let pin = |pin_retries| {
            let options = TaskOptions { pin_retries, ..TaskOptions::default() };
            let mut bench = bench(1);
            bench.0.handle(change([TaskSpec { options, ..version("b", "tasks.add") }]), NOW);
            let mut retry = request("tasks.add", "t-1");
            retry.message.headers.set(VERSION_HEADER, HeaderValue::Text("a".to_owned()));
            let actions = bench.0.handle(Input::Received(DeliveryId(1), Ok(Box::new(retry))), NOW);
            let pinned = actions.into_iter().find_map(|action| match action {
                Action::Start(attempt) => Some(attempt.pinned.map(|version| version.to_string())),
                _ => None,
            });
            pinned.expect("it starts")
        };
        assert_eq!(pin(true), Some("a".to_owned()));
        assert_eq!(pin(false), None);
    }

    #[test]
    fn a_plugin_runs_no_more_at_a_time_than_it_may_and_others_pass() {
        let one = std::num::NonZeroU32::new(1);
        let other = TaskSpec { plugin: PluginName::parse("other").expect("a name"), ..version("a", "tasks.other") };
        let mut bench = bench(3);
        let small = TaskSpec { plugin_concurrency: one, ..version("b", "tasks.add") };
        bench.0.handle(change([small, other.clone()]), NOW);
        bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1");
        bench.step(NOW, received(2, "tasks.add", "b"), "prefetch 13");
        bench.step(NOW, received(3, "tasks.add", "c"), "prefetch 14");
        bench.step(NOW, received(4, "tasks.other", "d"), "start 4 as 2");
        bench.step(NOW, success(1), "commit 1: SUCCESS, ack; start 2 as 3; prefetch 13");
        // Without the limit nobody waits for it.
        bench.step(NOW, change([version("c", "tasks.add"), other]), "bring home all; start 3 as 4; prefetch 12");
    }
}
