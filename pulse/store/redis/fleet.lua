-- Tell who is there, and which leases are over: ended, or longer than any lease can be.

local answer = { now = now, members = redis.call('HVALS', p .. 'members'), late = {} }

local function collect(from, to)
    local late = redis.call('ZRANGEBYSCORE', LEASES, from, to, 'WITHSCORES')
    for i = 1, #late, 2 do
        local record = redis.call('HGET', RUNS, late[i])
        if record then answer.late[#answer.late + 1] = { record, tonumber(late[i + 1]) } end
    end
end

if work.longest then
    collect('-inf', now)
    collect(now + work.longest + 1, '+inf')
end
return cmsgpack.pack(answer)
