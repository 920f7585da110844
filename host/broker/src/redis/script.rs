//! What the server does in one step, in Lua.
//!
//! A script is not undone when a command in it fails. Redis refuses commands that need memory only before
//! the first write of a script, so each begins its work by taking something away.

use std::sync::LazyLock;

use redis::Cmd;

/// A script, and the name that Redis has for it.
pub(super) struct Script {
    pub(super) text: &'static str,
    hash: String,
}

impl Script {
    fn new(text: &'static str) -> Self {
        Self { text, hash: redis::Script::new(text).get_hash().to_owned() }
    }
}

/// Registers an owner, or renews its lease; says 0 if it must be there and is not.
/// KEYS: owners. ARGV: owner, seconds of the lease, whether it must be there.
pub(super) static BEAT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local now = redis.call('TIME')
if ARGV[3] == '1' and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], string.format('%.3f', now[1] + now[2] / 1000000 + ARGV[2]), ARGV[1])
return 1",
    )
});

/// Binds a queue that expires, and says until when its table is to be kept (`REFRESH_BINDING` of kombu).
/// KEYS: table of the exchange, deadlines of tables. ARGV: what stands in the table, exchange, milliseconds.
pub(super) static BIND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
redis.call('SADD', KEYS[1], ARGV[1])
local now = redis.call('TIME')
redis.call('ZADD', KEYS[2], 'GT', now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[3], ARGV[2])
return 1",
    )
});

/// Takes owners whose lease is over, for as long as a lease: nobody else cleans up after them meanwhile.
/// One that is taken is called `!owner`, so that a late renewal does not find itself.
/// KEYS: owners. ARGV: seconds of the lease, how many.
pub(super) static CLAIM_DEAD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
local dead = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.3f', now), 'LIMIT', 0, ARGV[2])
for i, owner in ipairs(dead) do
  redis.call('ZREM', KEYS[1], owner)
  if string.sub(owner, 1, 1) == '!' then dead[i] = string.sub(owner, 2) end
  redis.call('ZADD', KEYS[1], string.format('%.3f', now + ARGV[1]), '!' .. dead[i])
end
return dead",
    )
});

/// Moves messages from the lists of a queue to `unacked`, and returns them. Nil if the owner is not
/// registered any more.
/// KEYS: owners, unacked, index, lists in order. ARGV: owner, how many, first number, what follows the
/// envelope in `unacked`.
pub(super) static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return false end
local taken, fields, scores = {}, {}, {}
local wanted, first = tonumber(ARGV[2]), tonumber(ARGV[3])
local now = redis.call('TIME')
now = string.format('%d.%06d', now[1], now[2])
for i = 4, #KEYS do
  local got = redis.call('RPOP', KEYS[i], wanted - #taken)
  if got then
    for _, envelope in ipairs(got) do
      local tag = ARGV[1] .. string.format('%d', first + #taken)
      taken[#taken + 1] = envelope
      local n = #fields
      fields[n + 1], fields[n + 2] = tag, '[' .. envelope .. ARGV[4]
      scores[n + 1], scores[n + 2] = now, tag
    end
    if #taken >= wanted then break end
  end
end
if #taken > 0 then
  redis.call('HSET', KEYS[2], unpack(fields))
  redis.call('ZADD', KEYS[3], unpack(scores))
end
return taken",
    )
});

/// Moves messages from `unacked` to lists; what is not there any more is left out. Says how many.
/// KEYS: unacked, index, lists. ARGV: the largest score that may be moved or nothing; for each: tag,
/// LPUSH or RPUSH, envelope, number of lists, the lists by number.
pub(super) static GIVE_BACK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local largest, at, moved = tonumber(ARGV[1]), 2, 0
while at <= #ARGV do
  local tag, lists = ARGV[at], tonumber(ARGV[at + 3])
  local may = true
  if largest then
    local score = redis.call('ZSCORE', KEYS[2], tag)
    may = score and tonumber(score) <= largest
  end
  if may and redis.call('HDEL', KEYS[1], tag) == 1 then
    redis.call('ZREM', KEYS[2], tag)
    for i = 1, lists do
      redis.call(ARGV[at + 1], KEYS[2 + tonumber(ARGV[at + 3 + i])], ARGV[at + 2])
    end
    moved = moved + 1
  end
  at = at + 4 + lists
end
return moved",
    )
});

/// Gives messages in `unacked` another tag and score.
/// KEYS: unacked, index. ARGV: for each old tag, new tag, score.
pub(super) static PUT_BACK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
for at = 1, #ARGV, 3 do
  local entry = redis.call('HGET', KEYS[1], ARGV[at])
  if entry then
    redis.call('HDEL', KEYS[1], ARGV[at])
    redis.call('ZREM', KEYS[2], ARGV[at])
    redis.call('HSET', KEYS[1], ARGV[at + 1], entry)
    redis.call('ZADD', KEYS[2], ARGV[at + 2], ARGV[at + 1])
  end
end
return 1",
    )
});

/// Scores messages as received now, and puts an index entry that was lost in place. Says which are gone,
/// by their places from 1 on.
/// KEYS: unacked, index. ARGV: tags.
pub(super) static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local gone, scores = {}, {}
local now = redis.call('TIME')
now = string.format('%d.%06d', now[1], now[2])
for i, tag in ipairs(ARGV) do
  if redis.call('HEXISTS', KEYS[1], tag) == 1 then
    scores[#scores + 1] = now
    scores[#scores + 1] = tag
  else
    gone[#gone + 1] = i
  end
end
if #scores > 0 then redis.call('ZADD', KEYS[2], unpack(scores)) end
return gone",
    )
});

/// What is due by its score: the bound, the seconds until the next is due (or -1), and tags.
/// KEYS: index. ARGV: seconds of the visibility timeout, offset, how many.
pub(super) static DUE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local now = redis.call('TIME')
local bound = now[1] - ARGV[1] + now[2] / 1000000
local text = string.format('%.6f', bound)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text, 'LIMIT', ARGV[2], ARGV[3])
local after = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. text, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local wait = -1
if after[2] then wait = after[2] - bound end
return {text, string.format('%.6f', wait), due}",
    )
});

/// Looks at some of `unacked`: gives an index entry to what has none, and a lease to owners that have none,
/// which is over if they do not renew it. Says where to go on, how many had no index entry, and how many owners
/// no lease.
/// KEYS: unacked, index, owners. ARGV: cursor, how many, seconds of the lease, the prefix of what waits for its
/// time (which is due now, since nobody knows better).
pub(super) static RECONCILE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local unindexed, orphaned = 0, 0
for i = 1, #page[2], 2 do
  local tag = page[2][i]
  if not redis.call('ZSCORE', KEYS[2], tag) then
    local score = string.format('%.6f', now)
    if string.sub(tag, 1, #ARGV[4]) == ARGV[4] then score = '0' end
    redis.call('ZADD', KEYS[2], score, tag)
    unindexed = unindexed + 1
  end
  local owner = string.match(tag, '^(th%-%x+%-)%d+$')
  if owner and not redis.call('ZSCORE', KEYS[3], owner) and not redis.call('ZSCORE', KEYS[3], '!' .. owner) then
    redis.call('ZADD', KEYS[3], string.format('%.3f', now + ARGV[3]), owner)
    orphaned = orphaned + 1
  end
end
return {page[1], unindexed, orphaned}",
    )
});

/// Releases a lock that is ours. KEYS: lock. ARGV: our token.
pub(super) static UNLOCK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0",
    )
});

/// The call of a script. Arguments follow.
pub(super) fn call(script: &Script, keys: &[&str]) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(&script.hash).arg(keys.len()).arg(keys);
    command
}
