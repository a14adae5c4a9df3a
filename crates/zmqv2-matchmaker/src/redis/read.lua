-- KEYS: epoch, renewals, then leases, places and changes of each topic.
-- ARGV: the process of Redis, after how many ms without a check-in Redis may be refusing writes, then
-- the known revision of each topic, or ''.
-- Returns the epoch or '', the time, what `renewals` has read, and why Redis refuses writes or ''.
-- These are followed by one value per topic: false if the revision is known, else a
-- list of the new revision, 'all' or 'changed', and pairs of member and place. 'all': every member in
-- the order of the leases. 'changed': the members that changed since; the place '-' means ended.
-- After so many members, the remaining topics are left out and asked for again, because Redis does
-- nothing else meanwhile.
local ENOUGH = 5000
local now = clock()

-- The members that have changed since a revision, or nil if the history does not contain it.
local function since(changes, known)
    if known == '' or #redis.call('XRANGE', changes, known, known) == 0 then
        return nil
    end
    local members, seen = {}, {}
    local entries = redis.call('XRANGE', changes, known, '+')
    -- Later changes come last.
    for nth = #entries, 2, -1 do
        local member = entries[nth][2][2]
        if not seen[member] then
            seen[member] = true
            table.insert(members, 1, member)
        end
    end
    return members
end

local function add(state, places, members, ended)
    for first = 1, #members, 1000 do
        local last = math.min(first + 999, #members)
        local values = redis.call('HMGET', places, unpack(members, first, last))
        for nth = first, last do
            local place = values[nth - first + 1] or ended
            if place then
                state[#state + 1] = members[nth]
                state[#state + 1] = place
            end
        end
    end
end

-- A reader writes only what can wait, so that it can read while writes are refused.
local name, refused = redis.call('GET', KEYS[1]) or '', ''
local state, shown = renewals(KEYS[2])
if name == '' or state and now - state.last > math.min(tonumber(ARGV[2]), state.gap) then
    local tried = redis.pcall('SET', KEYS[1], epoch_name(), 'NX')
    if type(tried) == 'table' and tried.err then
        refused = tried.err
    else
        name = redis.call('GET', KEYS[1])
    end
end
local sweeping = counts(state, now, ARGV[1]) and refused == ''
local reply = {name, whole(now), shown, refused}
local count = 0
for topic = 1, #ARGV - 2 do
    if count >= ENOUGH then
        break
    end
    local leases, places, changes = KEYS[topic * 3], KEYS[topic * 3 + 1], KEYS[topic * 3 + 2]
    if sweeping then
        sweep(leases, places, changes, now)
    end
    local last = redis.call('XREVRANGE', changes, '+', '-', 'COUNT', 1)[1]
    local revision = last and last[1] or '0-0'
    if revision == ARGV[topic + 2] then
        reply[topic + 4] = false
    else
        local members = since(changes, ARGV[topic + 2])
        local found = {revision, members and 'changed' or 'all'}
        if members then
            add(found, places, members, '-')
        else
            add(found, places, redis.call('ZRANGE', leases, 0, -1), nil)
        end
        reply[topic + 4] = found
        count = count + #found / 2
    end
end
return reply
