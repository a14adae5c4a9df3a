-- The time of this Redis in milliseconds. Clocks of two machines are never compared.
local function clock()
    local t = redis.call('TIME')
    return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- A number as a whole number. Lua would write a large one as 1.7e+12.
local function whole(number)
    return string.format('%.0f', number)
end

-- The name of this data set, which is lost with it.
local function epoch(key)
    local name = redis.call('GET', key)
    if not name then
        local t = redis.call('TIME')
        name = t[1] .. '.' .. t[2]
        redis.call('SET', key, name)
    end
    return name
end

-- How many changes of a topic are kept. A reader with an older revision gets the whole topic.
local HISTORY = 1000

-- Records that a member has changed, which gives the topic a new revision.
local function changed(changes, member)
    redis.call('XADD', changes, 'MAXLEN', '~', HISTORY, '*', 'm', member)
end

-- Removes members whose lease has ended.
local function sweep(leases, places, changes, now)
    while true do
        local ended = redis.call('ZRANGEBYSCORE', leases, '-inf', whole(now), 'LIMIT', 0, HISTORY)
        if #ended == 0 then
            return
        end
        redis.call('ZREM', leases, unpack(ended))
        redis.call('HDEL', places, unpack(ended))
        for _, member in ipairs(ended) do
            changed(changes, member)
        end
    end
end

-- Makes all keys of a topic expire with its last lease.
local function bound(topics, leases, places, changes, topic, now)
    local last = tonumber(redis.call('ZRANGE', leases, -1, -1, 'WITHSCORES')[2])
    for _, key in ipairs({leases, places, changes}) do
        redis.call('PEXPIREAT', key, whole(last))
    end
    redis.call('ZREMRANGEBYSCORE', topics, '-inf', whole(now))
    redis.call('ZADD', topics, whole(last), topic)
    if redis.call('PTTL', topics) < last - now then
        redis.call('PEXPIREAT', topics, whole(last))
    end
end
