-- KEYS: epoch, topics, renewals, then leases, places and changes of each registration.
-- ARGV: lease in ms, the process of Redis, then topic and member of each registration.
-- Returns how many were there before.
-- For one lease, an empty place tells caches that keep missing members that this one was withdrawn.
local now = clock()
local lease = tonumber(ARGV[1])
local ends = whole(now + lease)
local gone = 0
epoch(KEYS[1])
local sweeping = counts(renewals(KEYS[3]), now, ARGV[2])
for nth = 1, (#ARGV - 2) / 2 do
    local leases, places, changes = KEYS[nth * 3 + 1], KEYS[nth * 3 + 2], KEYS[nth * 3 + 3]
    local topic, member = ARGV[nth * 2 + 1], ARGV[nth * 2 + 2]
    if sweeping then
        sweep(leases, places, changes, now)
    end
    local before = redis.call('HGET', places, member)
    if before ~= '' then
        redis.call('ZADD', leases, ends, member)
        redis.call('HSET', places, member, '')
        changed(changes, member)
        bound(KEYS[2], leases, places, changes, topic, now, lease)
        gone = gone + (before and 1 or 0)
    end
end
return gone
