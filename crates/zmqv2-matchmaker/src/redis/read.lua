-- KEYS: epoch, then leases, places and changes of each topic. ARGV: the version that is known of each, or nothing.
-- The epoch, then for each topic its version and its members and places in the order of their leases; or nothing, if it is known.
local now = clock()
local reply = {epoch(KEYS[1])}
for topic = 1, #ARGV do
    local leases, places, changes = KEYS[topic * 3 - 1], KEYS[topic * 3], KEYS[topic * 3 + 1]
    sweep(leases, places, changes, now)
    local last = redis.call('XREVRANGE', changes, '+', '-', 'COUNT', 1)[1]
    local version = last and last[1] or '0-0'
    if version == ARGV[topic] then
        reply[topic + 1] = false
    else
        local state = {version}
        local first = 0
        repeat
            local members = redis.call('ZRANGE', leases, first, first + 999)
            if #members > 0 then
                local values = redis.call('HMGET', places, unpack(members))
                for place = 1, #members do
                    if values[place] then
                        state[#state + 1] = members[place]
                        state[#state + 1] = values[place]
                    end
                end
            end
            first = first + #members
        until #members < 1000
        reply[topic + 1] = state
    end
end
return reply
