-- Records a part of a chord, unless it is recorded, and claims the chord if it is complete.
-- The keys, and what is in them, are those of celery/backends/redis.py of Celery 5.7.
local parts, extra, size, counted, group, claim = unpack(KEYS)
local member, part, score = ARGV[1], ARGV[2], ARGV[3]
local expires, group_expires = tonumber(ARGV[4]), tonumber(ARGV[5])
local token, claim_expires, page = ARGV[6], ARGV[7], tonumber(ARGV[8])
local is_new = ARGV[9] == '1'
local ordered = score ~= ''

local holder = redis.call('GET', claim)
if holder == 'done' and not is_new then
    return {'over'}
end

local again = redis.call('SISMEMBER', counted, member)
if again == 0 then
    if ordered then
        redis.call('ZADD', parts, score, part)
    else
        redis.call('RPUSH', parts, part)
    end
    redis.call('SADD', counted, member)
end
if expires > 0 then
    redis.call('EXPIRE', parts, expires)
    redis.call('EXPIRE', extra, expires)
    redis.call('EXPIRE', size, expires)
    redis.call('EXPIRE', counted, expires)
    if group_expires > 0 then
        redis.call('EXPIRE', group, group_expires)
    end
end

if holder == 'done' then
    -- Kept for another run of the same chord, whose size has yet to come.
    return {'over'}
end

local wanted = redis.call('GET', size)
local there = redis.call(ordered and 'ZCARD' or 'LLEN', parts)
if not wanted or there ~= tonumber(wanted) + tonumber(redis.call('GET', extra) or 0) then
    return {'waiting'}
end
if holder and holder ~= token then
    return {'held', redis.call('PTTL', claim)}
end
redis.call('SET', claim, token, 'EX', claim_expires)
local first = redis.call(ordered and 'ZRANGE' or 'LRANGE', parts, 0, page - 1)
return {'claimed', again, there, first, redis.call('GET', group)}
