-- Return the claimed runs of some holders, and the pending runs of some partitions or tasks.

local wanted_holders, reply = {}, { now = now, claimed = {}, pending = {} }
for _, holder in ipairs(request.holders) do wanted_holders[holder] = true end

local function collect_claimed()
    local leases = redis.call('ZRANGE', LEASES, 0, -1, 'WITHSCORES')
    for i = 1, #leases, 2 do
        local record = redis.call('HGET', RUNS, leases[i])
        if record and wanted_holders[cjson.decode(record)[2]] then -- [2]: holder
            reply.claimed[#reply.claimed + 1] = { record, tonumber(leases[i + 1]) }
        end
    end
end

local function collect_partition(partition, wanted)
    for _, member in ipairs(redis.call('ZRANGE', p .. 'unheld:' .. partition, 0, -1)) do
        if not wanted or wanted[task_of_pending(member)] then
            local record = redis.call('HGET', RUNS, run_id_of_pending(member))
            if record then reply.pending[#reply.pending + 1] = record end
        end
    end
end

-- Most tasks have no pending run; the counter avoids reading the index for them.
local function collect_tasks(partition, tasks)
    local wanted = {}
    for _, task in ipairs(tasks) do
        if count(PENDING, partition .. '/' .. task) > 0 then wanted[task] = true end
    end
    if next(wanted) then collect_partition(partition, wanted) end
end

if #request.holders > 0 then collect_claimed() end
for _, partition in ipairs(request.partitions) do collect_partition(partition) end
for partition, tasks in pairs(request.tasks) do collect_tasks(partition, tasks) end
return cmsgpack.pack(reply)
