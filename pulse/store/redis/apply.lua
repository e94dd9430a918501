-- Write what was decided, each part where that on which it was decided still stands.
--
-- First runs that nobody holds are ended, then rows are changed and their runs opened, then other
-- runs are changed: taken, renewed, ended, released. All of it is one step to everybody else. What
-- it rests upon is read at once, and what it comes to is written at the end, in few commands.

local answer = { now = now, closed = {}, rows = {}, due = {}, runs = {}, existing = {} }
local lost, refused, numbers = {}, {}, {}
local last
local rows, runs = {}, {}
local writes = { rows = {}, runs = {}, history = {}, leases = {}, due = {} }

local function read_all()
    local spots, ids = {}, {}
    for _, row in ipairs(work.rows) do
        row.spot = row.partition .. '/' .. row.task
        spots[#spots + 1] = row.spot
        for _, run in ipairs(row.runs) do ids[#ids + 1] = run.id end
    end
    for _, changes in ipairs({ work.closed, work.runs }) do
        for _, change in ipairs(changes) do
            change.spot = change.partition .. '/' .. change.task
            ids[#ids + 1] = change.id
            if change.row then spots[#spots + 1] = change.spot end
        end
    end
    fetch(ROWS, spots, rows)
    fetch(RUNS, ids, runs)
    with_all('HDEL', RESERVED, spots)
end

local function add(list, ...)
    for _, word in ipairs({ ... }) do list[#list + 1] = word end
end

local function set_run(id, record)
    runs[id] = record
    add(writes.runs, id, record)
end

-- The order of runs: instants of the clock, but never the same twice and never falling.
local function next_number()
    last = math.max(now, (last or tonumber(redis.call('GET', p .. 'last') or 0)) + 1)
    return last
end

local function waiting_member(id, task)
    local number = numbers[id] or redis.call('ZSCORE', HISTORY, id)
    return string.format('%016.0f', number) .. id .. task
end

-- Counts in places that come and go are never zero, so that nothing is left of them.
local function lower(key, place, spot)
    local left = redis.call('HINCRBY', key, spot, -1)
    if left <= 0 and place ~= '' then redis.call('HDEL', key, spot) end
end

local function leave(state, place, task, id)
    if state == 'held' then
        writes.leases[id] = false
    elseif state == 'unheld' then
        redis.call('ZREM', p .. 'unheld:' .. place, waiting_member(id, task))
        lower(UNHELD, place, place .. '/' .. task)
    end
end

local function enter(state, place, task, id, at)
    if state == 'held' then
        writes.leases[id] = now + work.lease
    elseif state == 'unheld' then
        redis.call('ZADD', p .. 'unheld:' .. place, at, waiting_member(id, task))
        redis.call('HINCRBY', UNHELD, place .. '/' .. task, 1)
    end
end

local function open_run(place, task, run)
    local known = runs[run.id]
    if known and run.folds then return set_run(run.id, run.record) end
    if known then
        answer.existing[#answer.existing + 1] = run.id
        return
    end
    local number = next_number()
    numbers[run.id] = number
    set_run(run.id, run.record)
    add(writes.history, number, run.id)
    redis.call('ZADD', p .. 'history:' .. task, number, run.id)
    if run.state ~= 'ended' then redis.call('HINCRBY', OPEN, place .. '/' .. task, 1) end
    enter(run.state, place, task, run.id, run.at)
end

local function stands(change)
    local record = runs[change.id]
    if not record or not begins_with(record, change.was) then return false end
    if change.lease and tonumber(redis.call('ZSCORE', LEASES, change.id)) ~= change.lease then
        return false
    end
    if change.max_unfinished and count_held(change.spot) >= change.max_unfinished then return false end
    if not change.row then return true end
    return not refused[change.spot] and begins_with(rows[change.spot] or '', change.row)
end

local function change_run(change)
    local place, task, id = change.partition, change.task, change.id
    if not stands(change) then return false end
    if not change.record then
        writes.leases[id] = now + work.lease
        return true
    end
    leave(change.old, place, task, id)
    set_run(id, change.record)
    if change.new == 'ended' then
        lower(OPEN, place, change.spot)
    else
        enter(change.new, place, task, id, change.at)
    end
    return true
end

local function row_stands(row)
    local record = rows[row.spot]
    if row.was == '' then return not record end
    return record and not lost[row.spot] and begins_with(record, row.was)
end

local function index_row(row)
    local key = p .. 'due:' .. row.partition
    if row.due then
        writes.due[key] = writes.due[key] or {}
        add(writes.due[key], row.due, row.member)
    else
        redis.call('ZREM', key, row.member)
    end
    if row.archived then redis.call('ZADD', p .. 'archived', row.archived, row.spot) end
    if row.returned then redis.call('ZREM', p .. 'archived', row.spot) end
    if row.was == '' then
        redis.call('SADD', p .. 'places', row.partition)
        if row.partition ~= '' then redis.call('SADD', p .. 'rows:' .. row.partition, row.task) end
    end
end

local function change_row(row)
    if not row_stands(row) then
        refused[row.spot] = true
        local due = redis.call('ZSCORE', p .. 'due:' .. row.partition, row.member)
        answer.due[#answer.due + 1] = due and tonumber(due)
        return false
    end
    rows[row.spot] = row.record
    add(writes.rows, row.spot, row.record)
    index_row(row)
    for _, run in ipairs(row.runs) do open_run(row.partition, row.task, run) end
    return true
end

local function write_all()
    local kept, gone = {}, {}
    for id, till in pairs(writes.leases) do
        if till then add(kept, till, id) else add(gone, id) end
    end
    with_all('HSET', ROWS, writes.rows)
    with_all('HSET', RUNS, writes.runs)
    with_all('ZADD', HISTORY, writes.history)
    with_all('ZADD', LEASES, kept)
    with_all('ZREM', LEASES, gone)
    for key, words in pairs(writes.due) do with_all('ZADD', key, words) end
    if last then redis.call('SET', p .. 'last', string.format('%.0f', last)) end
    with_all('HDEL', RESERVED, work.released)
end

local function trim(task)
    local key = p .. 'history:' .. task
    local excess = math.min(redis.call('ZCARD', key) - work.keep, 1000)
    if excess <= 0 then return end
    local ids, ended = redis.call('ZRANGE', key, 0, excess - 1), {}
    local records = fetch(RUNS, ids)
    for _, id in ipairs(ids) do
        if not records[id] or not is_open(records[id]) then ended[#ended + 1] = id end
    end
    with_all('HDEL', RUNS, ended)
    with_all('ZREM', HISTORY, ended)
    with_all('ZREM', key, ended)
end

read_all()
for _, change in ipairs(work.closed) do
    local done = change_run(change)
    answer.closed[#answer.closed + 1] = done
    if not done then lost[change.spot] = true end
end
for _, row in ipairs(work.rows) do answer.rows[#answer.rows + 1] = change_row(row) end
for _, change in ipairs(work.runs) do answer.runs[#answer.runs + 1] = change_run(change) end
write_all()
for _, task in ipairs(work.trimmed) do trim(task) end
return cmsgpack.pack(answer)
