//! What becomes of everything when the broker is lost, and when the worker stops.

use crate::message::Acknowledgement;
use crate::outcome::{AttemptId, DeliveryId};
use crate::timestamp::Timestamp;

use super::stage::{Due, Stage, Tracked};
use super::{Action, Dispatcher, Shutdown};

impl Dispatcher {
    /// All receipts are void. What had not started comes back by itself; what runs goes on.
    pub(super) fn broker_lost(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let (mut gone, mut ours) = (Vec::new(), Vec::new());
        for (&delivery, tracked) in &mut self.deliveries {
            if self.overtime.is_journaled(delivery) {
                ours.push(delivery);
                continue;
            }
            match tracked.stage.identity_if_not_started() {
                Some(identity) => gone.push((delivery, identity)),
                None => tracked.lost = true,
            }
        }
        for (delivery, identity) in gone {
            self.untrack(delivery);
            self.forget_identity(&identity, delivery);
        }
        ours.sort_unstable();
        let ours: Vec<_> = ours.into_iter().filter_map(|it| self.take_idle(it, now).map(|work| (it, work))).collect();
        self.forget_waiting();
        // They are in the journal and wait as before.
        for (delivery, work) in ours {
            self.admit(delivery, work, now, actions);
        }
        self.counted.retain(|delivery| self.deliveries.contains_key(delivery));
    }

    /// Nothing waits any more.
    pub(super) fn forget_waiting(&mut self) {
        self.held = 0;
        self.counted.forget_waiting();
        self.ready.clear();
        self.crowds.forget_waiting();
        self.publishing.values_mut().for_each(Vec::clear);
        self.gates.clear(self.attempts.values().filter_map(|running| running.turn.as_ref()));
    }

    pub(super) fn stop(&mut self, shutdown: Shutdown, now: Timestamp, actions: &mut Vec<Action>) {
        if !self.stopping {
            self.stopping = true;
            actions.push(Action::StopConsuming);
            // What is being put back needs its receipt for that, and is not waited for long.
            let waiting = |(&delivery, tracked): (&DeliveryId, &Tracked)| match tracked.stage {
                Stage::PuttingBack { .. } => None,
                _ => tracked.stage.identity_if_not_started().map(|identity| (delivery, identity)),
            };
            let mut waiting: Vec<_> = self.deliveries.iter().filter_map(waiting).collect();
            waiting.sort_unstable_by_key(|(delivery, _)| *delivery);
            for (delivery, identity) in waiting {
                self.untrack(delivery);
                self.forget_identity(&identity, delivery);
                actions.push(Action::Settle(delivery, Acknowledgement::Requeue));
            }
            self.forget_waiting();
            // What is to go back to its queue does so now.
            self.hurry_commits(now, actions);
        }
        match (shutdown, self.limits.soft_shutdown_timeout) {
            (Shutdown::Warm, _) => {}
            (Shutdown::Cold, Some(timeout)) if !self.soft && !self.attempts.is_empty() => {
                self.soft = true;
                self.timetable.insert(now + timeout, Due::Cold);
                actions.push(Action::SoftShutdown(timeout));
            }
            (Shutdown::Cold, _) => self.stop_cold(actions),
        }
    }

    pub(super) fn stop_cold(&mut self, actions: &mut Vec<Action>) {
        actions.push(Action::ColdShutdown);
        let mut running: Vec<AttemptId> = self.attempts.keys().copied().collect();
        running.sort_unstable();
        actions.extend(running.into_iter().map(Action::Terminate));
    }
}
