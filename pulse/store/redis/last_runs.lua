-- Return how the newest runs of some tasks ended: for each row key, the outcome and the end of the
-- newest run that a process has begun, the end of the newest one that succeeded, and how many have
-- ended otherwise since. Without such a run the entry is false.
--
-- The request: row_keys; executed (a table with the outcomes of runs that a process has begun);
-- most (how many failures are counted).
--
-- Elements of a run: [1] outcome, [6] partition, [10] claimed_at, [11] started_at, [12] took_us.

local PAGE = 20

local function present(value) return value ~= nil and value ~= cjson.null end

local function ended_at(run)
    if present(run[11]) and present(run[12]) then return run[11] + run[12] end
    return present(run[10]) and run[10] or false
end

local function last_runs(partition, task)
    local key, from, found = p .. 'history:' .. task, 0, false
    while true do
        local ids = redis.call('ZREVRANGE', key, from, from + PAGE - 1)
        if #ids == 0 then return found end
        for _, record in ipairs(redis.call('HMGET', RUNS, unpack(ids))) do
            local run = record and state_of(record) == 'finished' and cjson.decode(record)
            if run and run[6] == partition and request.executed[run[1]] then
                found = found or { run[1], ended_at(run), false, 0 }
                if run[1] == 'succeeded' then
                    found[3] = ended_at(run)
                    return found
                end
                found[4] = found[4] + 1
                if found[4] == request.most then return found end
            end
        end
        from = from + PAGE
    end
end

local replies = {}
for i, row_key in ipairs(request.row_keys) do
    local partition, task = string.match(row_key, '^([^/]*)/(.*)$')
    replies[i] = last_runs(partition, task)
end
return cmsgpack.pack(replies)
