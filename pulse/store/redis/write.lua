-- Write what was decided, each part where that on which it was decided still stands.
--
-- First runs that nobody holds are ended, then rows are changed and their runs opened, then other
-- runs are changed: taken, renewed, ended, released. All of it is one step to everybody else.

local answer = { now = now, closed = {}, rows = {}, due = {}, runs = {}, existing = {} }
local lost = {}
local last

-- The order of runs: instants of the clock, but never the same twice and never falling.
local function next_number()
    last = math.max(now, (last or tonumber(redis.call('GET', p .. 'last') or 0)) + 1)
    return last
end

local function waiting_member(id, task)
    return string.format('%016.0f', redis.call('ZSCORE', HISTORY, id)) .. id .. task
end

-- Counts that are there are never zero, so that nothing is left of places that are gone.
local function lower(key, spot)
    if redis.call('HINCRBY', key, spot, -1) <= 0 then redis.call('HDEL', key, spot) end
end

local function leave(state, place, task, id)
    if state == 'held' then
        redis.call('ZREM', LEASES, id)
        lower(HELD, place .. '/' .. task)
    elseif state == 'unheld' then
        redis.call('ZREM', p .. 'unheld:' .. place, waiting_member(id, task))
    end
end

local function enter(state, place, task, id, at)
    if state == 'held' then
        redis.call('ZADD', LEASES, now + work.lease, id)
        redis.call('HINCRBY', HELD, place .. '/' .. task, 1)
    elseif state == 'unheld' then
        redis.call('ZADD', p .. 'unheld:' .. place, at, waiting_member(id, task))
    end
end

local function open_run(place, task, run)
    if run.folds and redis.call('HEXISTS', RUNS, run.id) == 1 then
        redis.call('HSET', RUNS, run.id, run.record)
        return
    end
    if redis.call('HSETNX', RUNS, run.id, run.record) == 0 then
        answer.existing[#answer.existing + 1] = run.id
        return
    end
    local number = next_number()
    redis.call('ZADD', HISTORY, number, run.id)
    redis.call('ZADD', p .. 'history:' .. task, number, run.id)
    if run.state ~= 'ended' then redis.call('HINCRBY', OPEN, place .. '/' .. task, 1) end
    enter(run.state, place, task, run.id, run.at)
end

local function stands(change, spot)
    local record = redis.call('HGET', RUNS, change.id)
    if not record or not begins_with(record, change.was) then return false end
    if change.lease and tonumber(redis.call('ZSCORE', LEASES, change.id)) ~= change.lease then
        return false
    end
    if change.room and count(HELD, spot) >= change.room then return false end
    return not change.row or begins_with(redis.call('HGET', ROWS, spot) or '', change.row)
end

local function change_run(change)
    local place, task, id = change.place, change.task, change.id
    local spot = place .. '/' .. task
    if not stands(change, spot) then return false end
    if not change.record then
        redis.call('ZADD', LEASES, now + work.lease, id)
        return true
    end
    leave(change.old, place, task, id)
    redis.call('HSET', RUNS, id, change.record)
    if change.new == 'ended' then
        lower(OPEN, spot)
    else
        enter(change.new, place, task, id, change.at)
    end
    return true
end

local function row_stands(row, spot)
    local record = redis.call('HGET', ROWS, spot)
    if row.was == '' then return not record end
    return record and not lost[spot] and begins_with(record, row.was)
end

local function index_row(row, place, task, spot)
    local due, member = p .. 'due:' .. place, row.member
    if row.due then redis.call('ZADD', due, row.due, member) else redis.call('ZREM', due, member) end
    if row.archived then redis.call('ZADD', p .. 'archived', row.archived, spot) end
    if row.returned then redis.call('ZREM', p .. 'archived', spot) end
    if row.was == '' then
        redis.call('SADD', p .. 'places', place)
        if place ~= '' then redis.call('SADD', p .. 'rows:' .. place, task) end
    end
end

local function change_row(row)
    local place, task = row.place, row.task
    local spot = place .. '/' .. task
    redis.call('HDEL', RESERVED, spot)
    if not row_stands(row, spot) then
        local due = redis.call('ZSCORE', p .. 'due:' .. place, row.member)
        answer.due[#answer.due + 1] = due and tonumber(due)
        return false
    end
    redis.call('HSET', ROWS, spot, row.record)
    index_row(row, place, task, spot)
    for _, run in ipairs(row.runs) do open_run(place, task, run) end
    return true
end

local function delete_run(task, id)
    redis.call('HDEL', RUNS, id)
    redis.call('ZREM', HISTORY, id)
    redis.call('ZREM', p .. 'history:' .. task, id)
end

local function trim(task)
    local key = p .. 'history:' .. task
    local excess = math.min(redis.call('ZCARD', key) - work.keep, 1000)
    if excess <= 0 then return end
    for _, id in ipairs(redis.call('ZRANGE', key, 0, excess - 1)) do
        local record = redis.call('HGET', RUNS, id)
        if not record or not is_open(record) then delete_run(task, id) end
    end
end

for _, change in ipairs(work.closed) do
    local done = change_run(change)
    answer.closed[#answer.closed + 1] = done
    if not done then lost[change.place .. '/' .. change.task] = true end
end
for _, row in ipairs(work.rows) do answer.rows[#answer.rows + 1] = change_row(row) end
for _, change in ipairs(work.runs) do answer.runs[#answer.runs + 1] = change_run(change) end
for _, spot in ipairs(work.released) do redis.call('HDEL', RESERVED, spot) end
for _, task in ipairs(work.trimmed) do trim(task) end
if last then redis.call('SET', p .. 'last', string.format('%.0f', last)) end
return cmsgpack.pack(answer)
