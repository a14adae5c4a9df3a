-- A broker shows that it lives and can write, and learns whether its registrations may be lost.
-- KEYS: epoch, renewals, nodes, and the places of a sample's topic.
-- ARGV: the process of Redis, the shortest long gap and the lease in ms, node, what this broker writes
-- about itself, and the sample's member or ''.
-- Returns the epoch, the time, what `renewals` reads now, what another broker of the node has written
-- or '', and the place of the sample or ''.
local DAY = 86400000
local now = clock()
local run, gap, lease, node, own, member = unpack(ARGV)
gap = tonumber(gap)
local name = epoch(KEYS[1])
local state, shown = renewals(KEYS[2])
local since = state and state.since or now
-- A clock that was put forward looks like a gap; one that was set back is one as well.
if state and (state.run ~= run or now - state.last > gap or since > now) then
    since = now
end
if not state or since == now or now - state.last >= math.min(1000, gap / 4) or now < state.last then
    shown = table.concat({whole(now), whole(since), run, whole(gap), lease}, ' ')
    redis.call('SET', KEYS[2], shown, 'PX', DAY)
else
    -- Changes nothing, and fails like any write if this broker cannot write.
    redis.call('SET', KEYS[2], '', 'NX')
end
local other = redis.call('HGET', KEYS[3], node) or ''
if other ~= own then
    redis.call('HSET', KEYS[3], node, own)
    redis.call('PEXPIREAT', KEYS[3], whole(now + DAY))
end
local place = member ~= '' and redis.call('HGET', KEYS[4], member) or ''
return {name, whole(now), shown, other ~= own and other or '', place}
