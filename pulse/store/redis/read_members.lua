-- Return the members, the runs whose lease has ended, when the next lease ends, which of the
-- expected keys are missing, and which partitions have an index of due rows.
--
-- A lease that ends later than the longest lease of the fleet allows has ended as well: it was
-- written before the server's clock was set back.

local members = redis.call('HVALS', p .. 'members')
local reply = {
    now = now, members = members, expired = {}, next_end = false, missing = {}, indexed = {},
}

local function exists(name) return redis.call('EXISTS', p .. name) == 1 end

local function find_missing()
    for _, name in ipairs(request.expected) do
        if not exists(name) then reply.missing[#reply.missing + 1] = name end
    end
    local config = p .. 'config:' .. request.manifest
    if request.digests > 0 and redis.call('HLEN', config) ~= request.digests then
        reply.missing[#reply.missing + 1] = 'config:' .. request.manifest
    end
    -- Each run is in the history, so both exist or none.
    if exists('runs') ~= exists('history') then
        reply.missing[#reply.missing + 1] = exists('runs') and 'history' or 'runs'
    end
    for _, partition in ipairs(request.partitions) do
        if exists('due:' .. partition) then reply.indexed[#reply.indexed + 1] = partition end
    end
end

local function collect(from, to)
    local leases = redis.call('ZRANGEBYSCORE', LEASES, from, to, 'WITHSCORES')
    for i = 1, #leases, 2 do
        local record = redis.call('HGET', RUNS, leases[i])
        if record then reply.expired[#reply.expired + 1] = { record, tonumber(leases[i + 1]) } end
    end
end

if #request.expected > 0 then find_missing() end
if request.longest_lease then
    collect('-inf', now)
    collect(now + request.longest_lease + 1, '+inf')
    local after = { now + 1, '+inf', 'WITHSCORES', 'LIMIT', 0, 1 }
    local following = redis.call('ZRANGEBYSCORE', LEASES, unpack(after))
    reply.next_end = following[2] and tonumber(following[2]) or false
end
return cmsgpack.pack(reply)
