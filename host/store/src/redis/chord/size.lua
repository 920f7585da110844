-- Sets the size of a chord. Who may have done so before (again) changes nothing about a chord that is done, or
-- that has failed: its size is gone, and the parts that were counted are still there.
local size, claim, counted = unpack(KEYS)
local value, expires, again = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'

if again then
    local is_failed = redis.call('EXISTS', size) == 0 and redis.call('EXISTS', counted) == 1
    if redis.call('GET', claim) == 'done' or is_failed then
        return 0
    end
else
    redis.call('DEL', claim)
end
if expires > 0 then
    redis.call('SET', size, value, 'EX', expires)
else
    redis.call('SET', size, value)
end
return 1
