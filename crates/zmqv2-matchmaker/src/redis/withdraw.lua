-- KEYS: epoch, topics, then leases, places and changes of each registration.
-- ARGV: lease in ms, then topic and member of each registration.
-- Returns how many were there before.
-- For one lease, an empty place tells caches that keep missing members that this one was withdrawn.
local now = clock()
local ends = whole(now + tonumber(ARGV[1]))
local gone = 0
epoch(KEYS[1])
for nth = 1, (#ARGV - 1) / 2 do
    local leases, places, changes = KEYS[nth * 3], KEYS[nth * 3 + 1], KEYS[nth * 3 + 2]
    local topic, member = ARGV[nth * 2], ARGV[nth * 2 + 1]
    sweep(leases, places, changes, now)
    local before = redis.call('HGET', places, member)
    if before ~= '' then
        redis.call('ZADD', leases, ends, member)
        redis.call('HSET', places, member, '')
        changed(changes, member)
        bound(KEYS[2], leases, places, changes, topic, now)
        gone = gone + (before and 1 or 0)
    end
end
return gone
