-- Deletes a chord whose body is published, and leaves a mark for those who come late.
local claim = KEYS[1]
local token, done_expires = ARGV[1], ARGV[2]

local holder = redis.call('GET', claim)
if holder == 'done' then
    return 1
end
if holder ~= token then
    return 0
end
for n = 2, #KEYS do
    redis.call('DEL', KEYS[n])
end
redis.call('SET', claim, 'done', 'EX', done_expires)
return 1
