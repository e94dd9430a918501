-- Apply a change set: write each change whose precondition still holds.
--
-- The order is: pending runs that end (`closed`), then rows with the runs that they create, then
-- other runs (claimed, renewed, finished, requeued). For all other clients the script is one step.
--
-- The request: lease (the length of new and renewed leases), closed, rows, runs, released (keys of
-- rows whose reservation is removed), trimmed (tasks whose history is cut to `keep` runs), paused
-- (the reason of fire times that were missed during a pause).
-- The reply: for each of closed, rows and runs whether it was changed; when refused rows are due;
-- ids of runs that were not created because they existed.
--
-- A row to add or to change:
--   partition, task
--   member    its member in the index of due rows
--   was       the text with which its record must begin; empty when no record may exist
--   record    the new record
--   runs      the runs to create: id, record, at, and whether an existing record of that id is
--             overwritten (folds, for a skip)
--   due       when the row is due; nil to remove it from the index
--   archived  when the row was archived; nil for not at all
--   returned  whether an archived row comes back into use
--   paused    refuse the change unless the task is recorded as paused (true) or not (false)
--   decides   whether a claim decides fire times: refused while all tasks are paused
--
-- An unfinished run to change:
--   id, partition, task
--   was          the text with which its record must begin
--   record       the new record; nil to renew only the lease
--   at           when a pending run may be claimed
--   max_claimed  refuse the change while so many runs of the row are claimed
--   lease        when its lease must end: a later end means that it was renewed
--   wait         the length of its lease where that is another one: how long a posted run may wait
--   row          the text with which the record of its task row must begin
--
-- The script reads all records first and writes most results at the end, in few commands; counters
-- and the indexes of pending runs change on the way, since later preconditions read them.

local reply = { closed = {}, rows = {}, due = {}, runs = {}, existing = {} }
-- By row key: rows for which a closing failed, rows whose change was refused. By run id: the
-- history numbers of the runs that this script created, which are not in the history yet.
local failed_closings, refused, new_numbers = {}, {}, {}
local last_number
local rows, runs = {}, {}
local all_paused
local writes = { rows = {}, runs = {}, history = {}, leases = {}, ended = {}, due = {} }

local function read_all()
    local row_keys, ids = {}, {}
    for _, row in ipairs(request.rows) do
        row.key = row.partition .. '/' .. row.task
        row_keys[#row_keys + 1] = row.key
        for _, run in ipairs(row.runs) do
            run.partition, run.task, run.key = row.partition, row.task, row.key
            ids[#ids + 1] = run.id
        end
    end
    for _, changes in ipairs({ request.closed, request.runs }) do
        for _, change in ipairs(changes) do
            change.key = change.partition .. '/' .. change.task
            ids[#ids + 1] = change.id
            if change.row then row_keys[#row_keys + 1] = change.key end
        end
    end
    fetch(ROWS, row_keys, rows)
    fetch(RUNS, ids, runs)
    call_in_parts('HDEL', RESERVED, row_keys)
end

local function append(list, one, other)
    list[#list + 1] = one
    list[#list + 1] = other
end

local function set_run(id, record)
    runs[id] = record
    append(writes.runs, id, record)
end

-- History numbers order the runs. They are instants of the clock, but they never repeat or fall,
-- also when the clock is set back.
local function next_number()
    last_number = math.max(now, (last_number or tonumber(redis.call('GET', p .. 'last') or 0)) + 1)
    return last_number
end

-- Partitions of hosts and processes come and go: a counter that reaches zero there is deleted, so
-- that nothing remains of them.
local function add_to(counter, run, difference)
    local left = redis.call('HINCRBY', counter, run.key, difference)
    if left <= 0 and run.partition ~= '' then redis.call('HDEL', counter, run.key) end
end

local function add_to_pending(run, difference)
    local number = new_numbers[run.id] or redis.call('ZSCORE', HISTORY, run.id)
    local key, member = p .. 'unheld:' .. run.partition, pending_member(number, run.id, run.task)
    if difference > 0 then redis.call('ZADD', key, run.at, member) end
    if difference < 0 then redis.call('ZREM', key, member) end
    add_to(PENDING, run, difference)
end

-- Write the record of a run, and move the run between the indexes of its old and its new state.
local function move_run(run, old)
    local new = state_of(run.record)
    set_run(run.id, run.record)
    if old == 'claimed' and new ~= 'claimed' then writes.ended[#writes.ended + 1] = run.id end
    if old == 'pending' then add_to_pending(run, -1) end
    if new == 'claimed' then append(writes.leases, now + (run.wait or request.lease), run.id) end
    if new == 'pending' then add_to_pending(run, 1) end
    if old == 'new' and new ~= 'finished' then add_to(UNFINISHED, run, 1) end
    if old ~= 'new' and new == 'finished' then add_to(UNFINISHED, run, -1) end
end

-- Create a run with its row. A run that exists already (its id is derived from the fire time) is
-- not created twice, only reported; the record of a skip is overwritten when the new one folds it
-- in.
local function create_run(run)
    local known = runs[run.id]
    if known and run.folds then return set_run(run.id, run.record) end
    if known then
        reply.existing[#reply.existing + 1] = run.id
        return
    end
    local number = next_number()
    new_numbers[run.id] = number
    append(writes.history, number, run.id)
    redis.call('ZADD', p .. 'history:' .. run.task, number, run.id)
    move_run(run, 'new')
end

-- A run or row is unchanged while its record begins with the text `was`, which ends in a comma: a
-- version 1 does not match a version 12. See codec.py.
local function is_run_unchanged(change)
    local record = runs[change.id]
    if not record or not begins_with(record, change.was) then return false end
    if change.lease and tonumber(redis.call('ZSCORE', LEASES, change.id)) ~= change.lease then
        return false
    end
    if change.max_claimed and count_claimed(change.key) >= change.max_claimed then return false end
    if not change.row then return true end
    return not refused[change.key] and begins_with(rows[change.key] or '', change.row)
end

local function change_run(change)
    if not is_run_unchanged(change) then return false end
    if change.record then
        local was = runs[change.id]
        if is_posted(was) then redis.call('HDEL', WAITS, change.id) end
        if change.wait then redis.call('HSET', WAITS, change.id, string.format('%.0f', change.wait)) end
        move_run(change, state_of(was))
    else
        append(writes.leases, now + request.lease, change.id)
    end
    return true
end

local function are_all_paused()
    if all_paused == nil then all_paused = redis.call('EXISTS', p .. 'fleet_pause') == 1 end
    return all_paused
end

-- A row was planned as if its closings succeed, so it is refused when one of them failed.
local function is_row_unchanged(row)
    local record = rows[row.key]
    if row.paused ~= nil then
        local is_paused = redis.call('SISMEMBER', p .. 'paused', row.task) == 1
        if row.paused ~= is_paused then return false end
    end
    if row.decides and are_all_paused() then return false end
    if row.was == '' then return not record end
    return record and not failed_closings[row.key] and begins_with(record, row.was)
end

local function index_row(row)
    local key = p .. 'due:' .. row.partition
    if row.due then
        writes.due[key] = writes.due[key] or {}
        append(writes.due[key], row.due, row.member)
    else
        redis.call('ZREM', key, row.member)
    end
    if row.archived then redis.call('ZADD', p .. 'archived', row.archived, row.key) end
    if row.returned then redis.call('ZREM', p .. 'archived', row.key) end
    if row.was == '' then
        redis.call('SADD', p .. 'places', row.partition)
        if row.partition ~= '' then redis.call('SADD', p .. 'rows:' .. row.partition, row.task) end
    end
end

local function change_row(row)
    if not is_row_unchanged(row) then
        refused[row.key] = true
        local due = redis.call('ZSCORE', p .. 'due:' .. row.partition, row.member)
        if due then reply.due[#reply.due + 1] = tonumber(due) end
        return false
    end
    rows[row.key] = row.record
    append(writes.rows, row.key, row.record)
    index_row(row)
    for _, run in ipairs(row.runs) do create_run(run) end
    return true
end

local function write_all()
    call_in_parts('HSET', ROWS, writes.rows)
    call_in_parts('HSET', RUNS, writes.runs)
    call_in_parts('ZADD', HISTORY, writes.history)
    call_in_parts('ZADD', LEASES, writes.leases)
    call_in_parts('ZREM', LEASES, writes.ended)
    for key, scores in pairs(writes.due) do call_in_parts('ZADD', key, scores) end
    if last_number then redis.call('SET', p .. 'last', string.format('%.0f', last_number)) end
    call_in_parts('HDEL', RESERVED, request.released)
end

-- Delete the oldest finished runs of a task beyond the number to keep, at most 1000 in one step.
-- Runs that are kept longer are left behind a number, which is kept, and are counted by themselves.
local function trim(task)
    local key = p .. 'history:' .. task
    local passed = redis.call('HGET', p .. 'trimmed', task) or '0'
    local excess = math.min(redis.call('ZCOUNT', key, '(' .. passed, '+inf') - request.keep, 1000)
    if excess > 0 then
        local page =
            redis.call('ZRANGEBYSCORE', key, '(' .. passed, '+inf', 'WITHSCORES', 'LIMIT', 0, excess)
        passed = delete_page(page) or passed
        redis.call('HSET', p .. 'trimmed', task, passed)
    end
    local left = math.min(redis.call('ZCOUNT', key, '-inf', passed) - request.keep, 1000)
    if left > 0 then delete_finished(redis.call('ZRANGE', key, 0, left - 1), false) end
end

read_all()
for _, change in ipairs(request.closed) do
    local done = change_run(change)
    reply.closed[#reply.closed + 1] = done
    if not done then failed_closings[change.key] = true end
end
for _, row in ipairs(request.rows) do reply.rows[#reply.rows + 1] = change_row(row) end
for _, change in ipairs(request.runs) do reply.runs[#reply.runs + 1] = change_run(change) end
write_all()
for _, task in ipairs(request.trimmed) do trim(task) end
return cmsgpack.pack({ reply.closed, reply.rows, reply.runs, reply.due, reply.existing })
