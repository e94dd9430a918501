-- Tell who is there, which leases are over (ended, or longer than any lease can be), and when the
-- next one ends.

local answer = { now = now, members = redis.call('HVALS', p .. 'members'), late = {}, next = false }

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
    local following = redis.call('ZRANGEBYSCORE', LEASES, now + 1, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    answer.next = following[2] and tonumber(following[2]) or false
end
return cmsgpack.pack(answer)
