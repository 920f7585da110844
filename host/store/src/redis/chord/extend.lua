-- Makes a chord one part larger, once for each member. Celery counts and does not ask who: its count goes
-- with the parts, and what we know of members goes with its count.
local extra, members, claim = unpack(KEYS)
local member, expires, members_expire = ARGV[1], tonumber(ARGV[2]), ARGV[3]

if redis.call('GET', claim) == 'done' then
    return 0
end
if redis.call('EXISTS', extra) == 0 then
    redis.call('DEL', members)
end
local is_new = redis.call('SADD', members, member)
if is_new == 1 then
    redis.call('INCR', extra)
end
if expires > 0 then
    redis.call('EXPIRE', extra, expires)
end
redis.call('EXPIRE', members, members_expire)
return is_new
