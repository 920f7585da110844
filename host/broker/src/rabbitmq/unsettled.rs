//! Which deliveries of a channel are unsettled, and with how few frames some can be settled.
//!
//! Pure: says what to send, and sends nothing.

use std::collections::BTreeSet;

use crate::port::{Acknowledgement, Receipts, Token};

/// The delivery tags of one channel: the broker numbers its deliveries from one without gaps.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    open: BTreeSet<u64>,
    /// All tags up to this one have passed through our hands.
    seen_to: u64,
    /// Tags beyond a gap: with two consumers on the channel, theirs are not read in order.
    seen_ahead: BTreeSet<u64>,
}

/// A frame that settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// With `multiple`, everything unsettled up to the tag.
    Ack {
        tag: u64,
        multiple: bool,
    },
    Reject {
        tag: u64,
        requeue: bool,
    },
}

impl Unsettled {
    /// A delivery has been read from the channel.
    pub(super) fn insert(&mut self, tag: u64) {
        self.open.insert(tag);
        if tag != self.seen_to + 1 {
            self.seen_ahead.insert(tag);
            return;
        }
        self.seen_to = tag;
        while self.seen_ahead.first() == Some(&(self.seen_to + 1)) {
            self.seen_ahead.pop_first();
            self.seen_to += 1;
        }
    }

    /// The frames that settle these, to be sent in this order. Tags that are not open are left out:
    /// the broker closes the channel over one it does not know.
    pub(super) fn settle(&mut self, receipts: &Receipts) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut acks = Vec::with_capacity(receipts.len());
        for (receipt, acknowledgement) in receipts {
            let Token::Number(tag) = *receipt.token() else { continue };
            if !self.open.remove(&tag) {
                continue;
            }
            match acknowledgement {
                Acknowledgement::Ack => acks.push(tag),
                // Before the acks, so that none of them covers a tag that is to be rejected.
                Acknowledgement::Reject => frames.push(Frame::Reject { tag, requeue: false }),
                Acknowledgement::Requeue => frames.push(Frame::Reject { tag, requeue: true }),
            }
        }
        acks.sort_unstable();
        // `multiple` also covers deliveries that lie unread in the channel's buffer, hence `seen_to`.
        let settled_to = self.open.first().map_or(self.seen_to, |first| self.seen_to.min(first - 1));
        let prefix = acks.partition_point(|tag| *tag <= settled_to);
        if let Some(last) = acks[..prefix].last() {
            frames.push(Frame::Ack { tag: *last, multiple: prefix > 1 });
        }
        frames.extend(acks[prefix..].iter().map(|tag| Frame::Ack { tag: *tag, multiple: false }));
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Receipt;

    fn with(tags: impl IntoIterator<Item = u64>) -> Unsettled {
        let mut unsettled = Unsettled::default();
        tags.into_iter().for_each(|tag| unsettled.insert(tag));
        unsettled
    }

    fn receipt(tag: u64, acknowledgement: Acknowledgement) -> (Receipt, Acknowledgement) {
        (Receipt::new(Token::Number(tag)), acknowledgement)
    }

    #[track_caller]
    fn check(unsettled: &mut Unsettled, settled: &[(u64, Acknowledgement)], expected: &str) {
        let receipts: Receipts = settled.iter().map(|(tag, what)| receipt(*tag, *what)).collect();
        let frames: Vec<String> = unsettled
            .settle(&receipts)
            .into_iter()
            .map(|frame| match frame {
                Frame::Ack { tag, multiple: true } => format!("ack ..{tag}"),
                Frame::Ack { tag, multiple: false } => format!("ack {tag}"),
                Frame::Reject { tag, requeue: true } => format!("requeue {tag}"),
                Frame::Reject { tag, requeue: false } => format!("reject {tag}"),
            })
            .collect();
        assert_eq!(frames.join(", "), expected);
    }

    use Acknowledgement::{Ack, Reject, Requeue};

    #[test]
    fn a_contiguous_prefix_is_one_frame() {
        let mut unsettled = with(1..=5);
        check(&mut unsettled, &[(2, Ack), (1, Ack), (3, Ack)], "ack ..3");
        check(&mut unsettled, &[(5, Ack)], "ack 5");
        check(&mut unsettled, &[(4, Ack)], "ack 4");
        check(&mut unsettled, &[], "");
    }

    #[test]
    fn what_follows_an_open_one_is_settled_alone_and_at_once() {
        let mut unsettled = with(1..=6);
        check(&mut unsettled, &[(2, Ack), (3, Ack)], "ack 2, ack 3");
        check(&mut unsettled, &[(5, Ack), (1, Ack), (4, Ack)], "ack ..5");
        check(&mut unsettled, &[(6, Ack)], "ack 6");
    }

    #[test]
    fn rejections_go_first_and_are_not_covered() {
        let mut unsettled = with(1..=6);
        check(&mut unsettled, &[(1, Ack), (2, Reject), (3, Ack), (4, Requeue)], "reject 2, requeue 4, ack ..3");
        check(&mut unsettled, &[(6, Ack), (5, Reject)], "reject 5, ack 6");
    }

    #[test]
    fn an_unread_delivery_is_never_covered() {
        let mut unsettled = with([1, 2, 5, 4]);
        check(&mut unsettled, &[(1, Ack), (2, Ack), (4, Ack), (5, Ack)], "ack ..2, ack 4, ack 5");
        unsettled.insert(3);
        unsettled.insert(6);
        check(&mut unsettled, &[(3, Ack), (6, Ack)], "ack ..6");
    }

    #[test]
    fn a_tag_is_settled_once_and_unknown_ones_are_ignored() {
        let mut unsettled = with(1..=2);
        check(&mut unsettled, &[(1, Ack), (1, Reject), (9, Ack)], "ack 1");
    }
}
