-- Make the indexes and counters again from the rows and runs, and empty the list of members, so that
-- each process syncs at its next heartbeat. The caller has moved everything that is no data of this
-- store aside before: each key has its type, and each record is a JSON array. One of another form
-- than expected, as a newer release may write it, is left out of the indexes.
--
-- Pending and claimed runs are those of the request, which a scan of all runs found, and those that
-- the indexes name: a run that was created since the scan is in an index.
--
-- The request: lease (the length of new leases), partitions (of the caller, and of unfinished runs),
-- unfinished (ids of runs).
-- The reply: true.

local unfinished, cleared = {}, {}

local function add_ids(ids)
    for _, id in ipairs(ids) do unfinished[id] = true end
end

local function whole(number) return string.format('%.0f', number) end

local function present(value) return value ~= nil and value ~= cjson.null end

local function raise_counter(name, least)
    if least > tonumber(redis.call('GET', p .. name) or 0) then
        redis.call('SET', p .. name, whole(least))
    end
end

-- Delete the indexes of a partition once; note the runs that its index of pending runs names.
local function clear(partition)
    if cleared[partition] then return end
    cleared[partition] = true
    local key = p .. 'unheld:' .. partition
    for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
        add_ids({ run_id_of_pending(member) })
    end
    redis.call('DEL', key, p .. 'due:' .. partition)
end

-- Add a row to the indexes. Elements of the record: [6] task, [7] partition, [14] due_at,
-- [16] order, [17] paused, [20] archived_at.
local function add_row(record)
    local row = cjson.decode(record)
    local task, partition, due, order, archived = row[6], row[7], row[14], row[16], row[20]
    if type(task) ~= 'string' or type(partition) ~= 'string' or type(order) ~= 'number' then
        return
    end
    clear(partition)
    raise_counter('orders', order)
    redis.call('SADD', p .. 'places', partition)
    if partition ~= '' then redis.call('SADD', p .. 'rows:' .. partition, task) end
    if present(archived) then
        redis.call('ZADD', p .. 'archived', whole(archived), partition .. '/' .. task)
    elseif row[17] ~= true and present(due) then
        local member = string.format('%010.0f', order) .. task
        redis.call('ZADD', p .. 'due:' .. partition, whole(due), member)
    end
end

-- Add an unfinished run to the indexes. Elements of the record: [5] task, [6] partition,
-- [16] retry_at.
local function add_run(id, record)
    local run = cjson.decode(record)
    local task, partition, retry_at = run[5], run[6], run[16]
    if type(task) ~= 'string' or type(partition) ~= 'string' then return end
    for _, key in ipairs({ HISTORY, p .. 'history:' .. task }) do
        redis.call('ZADD', key, 'NX', whole(now), id)
    end
    redis.call('HINCRBY', UNFINISHED, partition .. '/' .. task, 1)
    if state_of(record) == 'claimed' then
        redis.call('ZADD', LEASES, 'NX', whole(now + request.lease), id)
        -- How long the run was to wait is lost with this entry: it waits until its lease ends.
        if is_posted(record) then
            local left = redis.call('ZSCORE', LEASES, id) - now
            redis.call('HSETNX', WAITS, id, whole(math.max(left, request.lease)))
        end
    else
        local member = pending_member(redis.call('ZSCORE', HISTORY, id), id, task)
        local at = present(retry_at) and retry_at or now
        redis.call('HINCRBY', PENDING, partition .. '/' .. task, 1)
        redis.call('ZADD', p .. 'unheld:' .. partition, whole(at), member)
        redis.call('ZREM', LEASES, id)
    end
end

for _, partition in ipairs(request.partitions) do clear(partition) end
for _, partition in ipairs(redis.call('SMEMBERS', p .. 'places')) do clear(partition) end
for _, record in ipairs(redis.call('HVALS', ROWS)) do add_row(record) end
for _, record in ipairs(redis.call('HVALS', p .. 'configs')) do
    raise_counter('born', tonumber(string.match(record, '^%[(%d+)')) or 0)
end
for _, entry in ipairs({ redis.call('ZREVRANGE', p .. 'audit', 0, 0, 'WITHSCORES')[2] }) do
    raise_counter('audits', tonumber(entry))
end

add_ids(request.unfinished)
add_ids(redis.call('ZRANGE', LEASES, 0, -1))
add_ids(redis.call('HKEYS', WAITS))
redis.call('DEL', UNFINISHED, PENDING, RESERVED, p .. 'members')
for id in pairs(unfinished) do
    local record = redis.call('HGET', RUNS, id)
    if not record or not is_posted(record) then redis.call('HDEL', WAITS, id) end
    if record and state_of(record) ~= 'finished' then
        add_run(id, record)
    else
        redis.call('ZREM', LEASES, id)
    end
end
return cmsgpack.pack(true)
