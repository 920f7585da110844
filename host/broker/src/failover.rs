//! Which of several brokers is next: kombu's failover strategies as a pure cursor.
//!
//! Connects to nothing and throws no dice: the seed of what is shuffled is an argument.

/// In which order servers are tried (Celery's `broker_failover_strategy`). The first of the list is the first
/// in any case, as in kombu (kombu/connection.py `failover_strategies`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FailoverStrategy {
    /// As they are listed, over and over.
    #[default]
    RoundRobin,
    /// By chance. Unlike kombu's, no server comes twice before all have come.
    Shuffle,
}

impl FailoverStrategy {
    /// The strategy that Celery calls so.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "round-robin" => Some(Self::RoundRobin),
            "shuffle" => Some(Self::Shuffle),
            _ => None,
        }
    }

    /// Celery's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::Shuffle => "shuffle",
        }
    }
}

/// Says by which of several servers to connect. Goes on only when one is of no use: a server that comes back
/// is not returned to before the one in use fails.
#[derive(Debug)]
pub(crate) struct Cursor {
    /// Numbers of servers, in the order of this round.
    order: Vec<usize>,
    at: usize,
    strategy: FailoverStrategy,
    chance: u64,
}

impl Cursor {
    /// Over so many servers, one or more.
    pub(crate) fn new(count: usize, strategy: FailoverStrategy, seed: u64) -> Self {
        let mut cursor = Self { order: (0..count.max(1)).collect(), at: 0, strategy, chance: seed };
        if strategy == FailoverStrategy::Shuffle {
            cursor.shuffle(1);
        }
        cursor
    }

    /// The server to connect to.
    pub(crate) fn current(&self) -> usize {
        self.order[self.at]
    }

    /// Goes on to the next if `server` is the current one; whoever finds out later that it is of no use does not
    /// move the cursor a second time. True if it moved.
    pub(crate) fn leave(&mut self, server: usize) -> bool {
        if self.order.len() < 2 || self.current() != server {
            return false;
        }
        self.at += 1;
        if self.at == self.order.len() {
            self.at = 0;
            if self.strategy == FailoverStrategy::Shuffle {
                self.shuffle(0);
                // The one that was just left does not come first.
                if self.order[0] == server {
                    self.order.rotate_left(1);
                }
            }
        }
        true
    }

    /// Fisher and Yates, from this place on.
    fn shuffle(&mut self, from: usize) {
        for last in (from + 1..self.order.len()).rev() {
            let among = (last - from + 1) as u64;
            let other = from + usize::try_from(self.draw() % among).unwrap_or(0);
            self.order.swap(last, other);
        }
    }

    /// SplitMix64.
    fn draw(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The servers that are tried if none ever works.
    fn tried(cursor: &mut Cursor, times: usize) -> Vec<usize> {
        let mut tried = Vec::new();
        for _ in 0..times {
            let server = cursor.current();
            tried.push(server);
            cursor.leave(server);
        }
        tried
    }

    #[test]
    fn servers_come_in_their_order_round_and_round() {
        let mut cursor = Cursor::new(3, FailoverStrategy::RoundRobin, 0);
        assert_eq!(tried(&mut cursor, 7), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn one_that_works_stays() {
        let mut cursor = Cursor::new(3, FailoverStrategy::RoundRobin, 0);
        assert!(cursor.leave(0));
        assert_eq!(cursor.current(), 1);
        assert!(!cursor.leave(0), "somebody else saw the same failure");
        assert!(!cursor.leave(2), "nobody is there");
        assert_eq!(cursor.current(), 1);
    }

    #[test]
    fn one_server_alone_is_not_left() {
        for strategy in [FailoverStrategy::RoundRobin, FailoverStrategy::Shuffle] {
            let mut cursor = Cursor::new(1, strategy, 7);
            assert!(!cursor.leave(0));
            assert_eq!(cursor.current(), 0);
        }
    }

    #[test]
    fn shuffled_servers_come_once_in_each_round_and_never_twice_in_a_row() {
        let mut orders = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let mut cursor = Cursor::new(4, FailoverStrategy::Shuffle, seed);
            let tried = tried(&mut cursor, 40);
            assert_eq!(tried[0], 0, "the first of the list is the first");
            for round in tried.chunks(4) {
                let mut sorted = round.to_vec();
                sorted.sort_unstable();
                assert_eq!(sorted, [0, 1, 2, 3], "seed {seed}: {tried:?}");
            }
            assert!(tried.windows(2).all(|pair| pair[0] != pair[1]), "seed {seed}: {tried:?}");
            orders.insert(tried);
        }
        assert!(orders.len() > 40, "{} orders of 50 seeds", orders.len());
    }

    #[test]
    fn strategies_have_celerys_names() {
        for name in ["round-robin", "shuffle"] {
            assert_eq!(FailoverStrategy::parse(name).map(FailoverStrategy::as_str), Some(name));
        }
        assert_eq!(FailoverStrategy::parse("random"), None);
    }
}
