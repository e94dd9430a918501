-- Return the members, the runs whose lease has ended, and when the next lease ends.
--
-- A lease that ends later than the longest lease of the fleet allows has ended as well: it was
-- written before the server's clock was set back.

local members = redis.call('HVALS', p .. 'members')
local reply = { now = now, members = members, expired = {}, next_end = false }

local function collect(from, to)
    local leases = redis.call('ZRANGEBYSCORE', LEASES, from, to, 'WITHSCORES')
    for i = 1, #leases, 2 do
        local record = redis.call('HGET', RUNS, leases[i])
        if record then reply.expired[#reply.expired + 1] = { record, tonumber(leases[i + 1]) } end
    end
end

if request.longest_lease then
    collect('-inf', now)
    collect(now + request.longest_lease + 1, '+inf')
    local after = { now + 1, '+inf', 'WITHSCORES', 'LIMIT', 0, 1 }
    local following = redis.call('ZRANGEBYSCORE', LEASES, unpack(after))
    reply.next_end = following[2] and tonumber(following[2]) or false
end
return cmsgpack.pack(reply)
