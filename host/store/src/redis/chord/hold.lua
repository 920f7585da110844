-- Makes a claim last, or takes one again that ran out while the chord is still there.
local claim, size = unpack(KEYS)
local token, expires = ARGV[1], ARGV[2]

local holder = redis.call('GET', claim)
if holder and holder ~= token or not holder and redis.call('EXISTS', size) == 0 then
    return 0
end
redis.call('SET', claim, token, 'EX', expires)
return 1
