-- Make the indexes and counters again from the rows and runs, and empty the list of members, so that
-- each process syncs at its next heartbeat. The caller has moved everything that is no data of this
-- store aside before: each key has its type, and each record is a JSON array. One of another form
-- than expected, as a newer release may write it, is left out of the indexes.
--
-- Pending and claimed runs are those of the request, which a scan of all runs found, and those that
-- the indexes name: a run that was created since the scan is in an index.
--
-- The request: lease (the length of new leases), partitions, tasks (whose history is deleted if there
-- are no runs), unfinished (ids of runs), newest_manifest (its number).
-- The reply: true.

local function whole(number) return string.format('%.0f', number) end

local function present(value) return value ~= nil and value ~= cjson.null end

-- Add a row to the indexes and return its order. Elements of the record: [6] task, [7] partition,
-- [14] due_at, [16] order, [17] paused, [20] archived_at.
local function add_row(record, partitions)
    local row = cjson.decode(record)
    local task, partition, due, order, archived = row[6], row[7], row[14], row[16], row[20]
    if type(task) ~= 'string' or type(partition) ~= 'string' or type(order) ~= 'number' then
        return 0
    end
    partitions[partition] = true
    redis.call('SADD', p .. 'places', partition)
    if partition ~= '' then redis.call('SADD', p .. 'rows:' .. partition, task) end
    if present(archived) then
        redis.call('ZADD', p .. 'archived', whole(archived), partition .. '/' .. task)
    elseif row[17] ~= true and present(due) then
        local member = string.format('%010.0f', order) .. task
        redis.call('ZADD', p .. 'due:' .. partition, whole(due), member)
    end
    return order
end

local function raise_counter(name, least)
    if least > tonumber(redis.call('GET', p .. name) or 0) then
        redis.call('SET', p .. name, whole(least))
    end
end

local function rebuild_rows()
    local records, partitions, newest = redis.call('HVALS', ROWS), {}, 0
    for _, partition in ipairs(request.partitions) do redis.call('DEL', p .. 'due:' .. partition) end
    for _, record in ipairs(records) do newest = math.max(newest, add_row(record, partitions)) end
    raise_counter('orders', newest)
    return partitions
end

local function unfinished_ids(partitions)
    local ids = {}
    for _, id in ipairs(request.unfinished) do ids[id] = true end
    for _, id in ipairs(redis.call('ZRANGE', LEASES, 0, -1)) do ids[id] = true end
    for _, partition in ipairs(request.partitions) do partitions[partition] = true end
    for partition in pairs(partitions) do
        local key = p .. 'unheld:' .. partition
        for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
            ids[run_id_of_pending(member)] = true
        end
        redis.call('DEL', key)
    end
    return ids
end

local function number_of(id, task)
    local number = redis.call('ZSCORE', HISTORY, id)
    if number then return tonumber(number) end
    number = math.max(now, tonumber(redis.call('GET', p .. 'last') or 0) + 1)
    redis.call('SET', p .. 'last', whole(number))
    redis.call('ZADD', HISTORY, whole(number), id)
    redis.call('ZADD', p .. 'history:' .. task, whole(number), id)
    return number
end

-- Add an unfinished run to the indexes. Elements of the record: [2] holder, [4] id, [5] task,
-- [6] partition, [16] retry_at.
local function add_run(record)
    local run = cjson.decode(record)
    local holder, id, task, partition, retry_at = run[2], run[4], run[5], run[6], run[16]
    if type(task) ~= 'string' or type(partition) ~= 'string' then return end
    local row_key, number = partition .. '/' .. task, number_of(id, task)
    redis.call('HINCRBY', UNFINISHED, row_key, 1)
    if holder == '' then
        local at = present(retry_at) and retry_at or now
        local member = pending_member(number, id, task)
        redis.call('HINCRBY', PENDING, row_key, 1)
        redis.call('ZADD', p .. 'unheld:' .. partition, whole(at), member)
        redis.call('ZREM', LEASES, id)
    elseif not redis.call('ZSCORE', LEASES, id) then
        redis.call('ZADD', LEASES, whole(now + request.lease), id)
    end
end

local function rebuild_runs(partitions)
    local ids = unfinished_ids(partitions)
    redis.call('DEL', UNFINISHED, PENDING, RESERVED)
    for id in pairs(ids) do
        local record = redis.call('HGET', RUNS, id)
        if record and is_unfinished(record) then
            add_run(record)
        else
            redis.call('ZREM', LEASES, id)
        end
    end
end

-- Without runs there is no history.
local function delete_history()
    if redis.call('EXISTS', RUNS) == 1 then return end
    redis.call('DEL', HISTORY)
    for _, task in ipairs(request.tasks) do redis.call('DEL', p .. 'history:' .. task) end
end

delete_history()
raise_counter('born', request.newest_manifest)
rebuild_runs(rebuild_rows())
redis.call('DEL', p .. 'members')
return cmsgpack.pack(true)
