-- KEYS: epoch, topics, renewals, then leases, places and changes of each registration.
-- ARGV: lease in ms, the process of Redis, then topic, member and place of each registration.
-- Returns how many are new.
local now = clock()
local lease = tonumber(ARGV[1])
local ends = whole(now + lease)
local new = 0
epoch(KEYS[1])
local sweeping = counts(renewals(KEYS[3]), now, ARGV[2])
if sweeping then
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', whole(now))
end
for nth = 1, (#ARGV - 2) / 3 do
    local leases, places, changes = KEYS[nth * 3 + 1], KEYS[nth * 3 + 2], KEYS[nth * 3 + 3]
    local topic, member, place = ARGV[nth * 3], ARGV[nth * 3 + 1], ARGV[nth * 3 + 2]
    if sweeping then
        sweep(leases, places, changes, now)
    end
    local before = redis.call('HGET', places, member)
    redis.call('ZADD', leases, ends, member)
    if before ~= place then
        redis.call('HSET', places, member, place)
        changed(changes, member)
    end
    if not before or before == '' then
        new = new + 1
    end
    bound(KEYS[2], leases, places, changes, topic, now, lease)
end
return new
