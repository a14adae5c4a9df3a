-- The time of this Redis in milliseconds. Clocks of two machines are never compared.
local function clock()
    local t = redis.call('TIME')
    return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- A number as a whole number. Lua would write a large one as 1.7e+12.
local function whole(number)
    return string.format('%.0f', number)
end

-- A new name of a data set.
local function epoch_name()
    local t = redis.call('TIME')
    return t[1] .. '.' .. t[2]
end

-- The name of this data set, which is lost with it.
local function epoch(key)
    local name = redis.call('GET', key)
    if not name then
        name = epoch_name()
        redis.call('SET', key, name)
    end
    return name
end

-- What brokers have shown by checking in: when one of them last could write, since when this was
-- possible without a long gap, in which process of Redis, the shortest long gap, and the lease (all
-- in milliseconds). Nil: no broker has checked in.
local function renewals(key)
    local text = redis.call('GET', key)
    local last, since, run, gap, lease = string.match(text or '', '^(%d+) (%d+) (%S+) (%d+) (%d+)$')
    if not last then
        return nil, ''
    end
    return {
        last = tonumber(last), since = tonumber(since), run = run, gap = tonumber(gap), lease = tonumber(lease)
    }, text
end

-- Whether a lease that has ended means that its server is gone. It says nothing if brokers could not
-- renew within the last lease.
local function counts(state, now, run)
    return not state or (state.run == run and now - state.last <= state.gap and now - state.since >= state.lease)
end

-- How many changes of a topic are kept. A reader with an older revision gets the whole topic.
local HISTORY = 1000

-- Records that a member has changed, which gives the topic a new revision.
local function changed(changes, member)
    redis.call('XADD', changes, 'MAXLEN', '~', HISTORY, '*', 'm', member)
end

-- Removes members whose lease has ended. Nothing is removed if Redis refuses that.
local function sweep(leases, places, changes, now)
    while true do
        local ended = redis.call('ZRANGEBYSCORE', leases, '-inf', whole(now), 'LIMIT', 0, HISTORY)
        if #ended == 0 or type(redis.pcall('ZREM', leases, unpack(ended))) ~= 'number' then
            return
        end
        redis.call('HDEL', places, unpack(ended))
        for _, member in ipairs(ended) do
            changed(changes, member)
        end
    end
end

-- Makes all keys of a topic expire some time after its last lease. Not with it: brokers may be unable
-- to renew for longer than a lease.
local function bound(topics, leases, places, changes, topic, now, lease)
    local last = tonumber(redis.call('ZRANGE', leases, -1, -1, 'WITHSCORES')[2])
    local ends = last + math.max(10 * lease, 600000)
    for _, key in ipairs({leases, places, changes}) do
        redis.call('PEXPIREAT', key, whole(ends))
    end
    redis.call('ZADD', topics, whole(last), topic)
    if redis.call('PTTL', topics) < ends - now then
        redis.call('PEXPIREAT', topics, whole(ends))
    end
end
