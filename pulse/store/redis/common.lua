-- Shared by all scripts: the client sends this file in front of each of them.
--
-- The keys and the record format are described in codec.py. KEYS[1] is the prefix of this
-- application's keys. The prefix holds the hash tag, so all keys are on one node, including the
-- keys whose names the scripts compose. ARGV[1] is the request, as MessagePack.
--
-- Instants are microseconds, which a double holds exactly. `..` and tostring() would round them to
-- 14 digits; string.format('%.0f') does not.

local p = KEYS[1]
local request = cmsgpack.unpack(ARGV[1])
local ROWS, RUNS = p .. 'rows', p .. 'runs'
local UNFINISHED, PENDING = p .. 'open', p .. 'unheld'
local LEASES, HISTORY, RESERVED = p .. 'leases', p .. 'history', p .. 'reserved'
local WAITS = p .. 'waits'

local function server_time()
    if request.clock then return request.clock end
    local time = redis.call('TIME')
    return time[1] * 1000000 + time[2]
end

local now = server_time()

local function begins_with(text, start)
    return string.sub(text, 1, #start) == start
end

-- A run record begins with the outcome, which is null while the run is unfinished, and the holder,
-- which is empty while it is pending.
local function state_of(record)
    if not begins_with(record, '[null,') then return 'finished' end
    return begins_with(record, '[null,"",') and 'pending' or 'claimed'
end

-- A posted run is a claimed one, whose holder is the queue (`QUEUE_HOLDER`).
local function is_posted(record) return begins_with(record, '[null,"@queue",') end

-- Call a command with many arguments in few calls: a call costs more than the work it does. The
-- parts are bounded because unpack() is limited by the Lua stack; 2000 is even, so no pair is
-- divided.
local function call_in_parts(command, key, arguments)
    for first = 1, #arguments, 2000 do
        redis.call(command, key, unpack(arguments, first, math.min(first + 1999, #arguments)))
    end
end

-- Read fields of a hash into a table; a field that does not exist becomes false.
local function fetch(key, fields, into)
    local found = into or {}
    for first = 1, #fields, 2000 do
        local last = math.min(first + 1999, #fields)
        local values = redis.call('HMGET', key, unpack(fields, first, last))
        for i, value in ipairs(values) do found[fields[first + i - 1]] = value end
    end
    return found
end

local function count(key, row_key)
    return tonumber(redis.call('HGET', key, row_key) or 0)
end

local function count_claimed(row_key)
    return count(UNFINISHED, row_key) - count(PENDING, row_key)
end

-- A member of the index of pending runs is 16 digits of history number, 32 of run id, then the
-- task.
local function pending_member(number, id, task)
    return string.format('%016.0f', number) .. id .. task
end

local function run_id_of_pending(member) return string.sub(member, 17, 48) end

local function task_of_pending(member) return string.sub(member, 49) end

-- The outcomes of runs that are kept longer than others.
local KEPT_LONGER = { failed = true, abandoned = true, timed_out = true }

local function outcome_of(record) return string.match(record, '^%["([%l_]+)",') end

-- Count a run that is deleted, by day and task, then by hour, whether it was planned, and kind.
-- Elements of the record: [1] outcome, [5] task, [7] fire_time, [8] scheduled_for, [14] message,
-- [15] count. The newest fire time is text, since cjson rounds large numbers.
local HOUR = 3600000000
local function count_deleted(run, tallies)
    local kind, fire_time = run[1], run[7]
    if kind == 'missed' and run[14] == request.paused then kind = 'paused' end
    local hour = math.floor(fire_time / HOUR) * HOUR
    local day = string.format('%.0f', math.floor(fire_time / (24 * HOUR)))
    local planned = run[8] ~= cjson.null and 1 or 0
    local cell = string.format('%.0f %d %s', hour, planned, kind)
    tallies[day] = tallies[day] or {}
    tallies[day][run[5]] = tallies[day][run[5]] or {}
    local cells = tallies[day][run[5]]
    local known = cells[cell] or { 0, 0 }
    cells[cell] = { known[1] + run[15], math.max(known[2], fire_time) }
end

-- Add to the tallies: hash of a day, field of a task, `[{"<hour> <planned> <kind>": [n, "newest"]}]`.
local function write_tallies(tallies)
    for day, tasks in pairs(tallies) do
        local key = p .. 'tallies:' .. day
        for task, cells in pairs(tasks) do
            local record = redis.call('HGET', key, task)
            local known = record and cjson.decode(record)[1] or {}
            for cell, added in pairs(cells) do
                local was = known[cell] or { 0, '0' }
                local newest = math.max(tonumber(was[2]), added[2])
                known[cell] = { was[1] + added[1], string.format('%.0f', newest) }
            end
            redis.call('HSET', key, task, cjson.encode({ known }))
        end
        redis.call('EXPIRE', key, 92 * 86400)
    end
end

-- Whether a run is the record of a skip into which the next skip of its task is folded. Elements of
-- a run: [5] task, [6] partition, [7] fire_time; of a row: [19] skip, of which [1] is the oldest one.
local function is_continued(run)
    if run[1] ~= 'skipped' then return false end
    local record = redis.call('HGET', ROWS, run[6] .. '/' .. run[5])
    local skip = record and cjson.decode(record)[19] or cjson.null
    return skip ~= cjson.null and skip[1] == run[7]
end

-- Delete those of some runs that are finished, and the entries of the history without a run; with
-- `keeps`, not those that are kept longer. Return the number of ids, from the first one on, of which
-- only runs that are kept longer are left.
local function delete_finished(ids, keeps)
    local records, finished, by_index, tallies = fetch(RUNS, ids), {}, {}, {}
    local passed, is_open = 0, false
    for i, id in ipairs(ids) do
        local record = records[id]
        local is_finished = not record or state_of(record) == 'finished'
        if not is_finished then
            is_open = true
        elseif not (keeps and record and KEPT_LONGER[outcome_of(record)]) then
            local run = record and cjson.decode(record)
            local stays = run and is_continued(run)
            if not stays then finished[#finished + 1] = id end
            if run and not stays then
                local index = p .. 'history:' .. run[5]
                by_index[index] = by_index[index] or {}
                table.insert(by_index[index], id)
                count_deleted(run, tallies)
            end
        end
        if not is_open then passed = i end
    end
    call_in_parts('HDEL', RUNS, finished)
    call_in_parts('ZREM', HISTORY, finished)
    for index, of_task in pairs(by_index) do call_in_parts('ZREM', index, of_task) end
    write_tallies(tallies)
    return passed
end

-- Delete from a page of a history, which is ids and numbers in turn. Return the number up to which
-- only runs that are kept longer are left, as text; nil if the first run is unfinished.
local function delete_page(page)
    local ids, numbers = {}, {}
    for i = 1, #page, 2 do
        ids[#ids + 1], numbers[#numbers + 1] = page[i], page[i + 1]
    end
    local passed = delete_finished(ids, true)
    return passed > 0 and numbers[passed] or nil
end
