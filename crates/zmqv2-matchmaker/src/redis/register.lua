-- KEYS: epoch, topics, then leases, places and changes of each registration.
-- ARGV: lease in ms, then topic, member and place of each registration. Returns how many are new.
local now = clock()
local ends = whole(now + tonumber(ARGV[1]))
local new = 0
epoch(KEYS[1])
for nth = 1, (#ARGV - 1) / 3 do
    local leases, places, changes = KEYS[nth * 3], KEYS[nth * 3 + 1], KEYS[nth * 3 + 2]
    local topic, member, place = ARGV[nth * 3 - 1], ARGV[nth * 3], ARGV[nth * 3 + 1]
    sweep(leases, places, changes, now)
    local before = redis.call('HGET', places, member)
    redis.call('ZADD', leases, ends, member)
    if before ~= place then
        redis.call('HSET', places, member, place)
        changed(changes, member)
    end
    if not before or before == '' then
        new = new + 1
    end
    bound(KEYS[2], leases, places, changes, topic, now)
end
return new
