-- Return the claimed runs of some holders, and the pending runs in their partitions; or the pending
-- runs of some tasks, which are given by partition.

local wanted_holders, claimed, pending = {}, {}, {}
for _, holder in ipairs(request.holders) do wanted_holders[holder] = true end

local function collect_claimed()
    for _, id in ipairs(redis.call('ZRANGE', LEASES, 0, -1)) do
        local record = redis.call('HGET', RUNS, id)
        if record and wanted_holders[cjson.decode(record)[2]] then -- [2]: holder
            claimed[#claimed + 1] = record
        end
    end
end

local function collect_partition(partition, wanted)
    for _, member in ipairs(redis.call('ZRANGE', p .. 'unheld:' .. partition, 0, -1)) do
        if not wanted or wanted[task_of_pending(member)] then
            local record = redis.call('HGET', RUNS, run_id_of_pending(member))
            if record then pending[#pending + 1] = record end
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
for _, holder in ipairs(request.holders) do collect_partition(holder) end
for partition, tasks in pairs(request.tasks) do collect_tasks(partition, tasks) end
return cmsgpack.pack({ claimed, pending })
