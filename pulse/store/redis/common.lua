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

-- Delete those of some runs that are finished, and the entries of the history without a run. If the
-- runs are of several tasks, the task is element 5 of each record.
local function delete_finished(ids, task)
    local records, finished, by_index = fetch(RUNS, ids), {}, {}
    for _, id in ipairs(ids) do
        local record = records[id]
        if not record or state_of(record) == 'finished' then
            finished[#finished + 1] = id
            local own_task = task or record and cjson.decode(record)[5]
            if own_task then
                local index = p .. 'history:' .. own_task
                by_index[index] = by_index[index] or {}
                table.insert(by_index[index], id)
            end
        end
    end
    call_in_parts('HDEL', RUNS, finished)
    call_in_parts('ZREM', HISTORY, finished)
    for index, of_task in pairs(by_index) do call_in_parts('ZREM', index, of_task) end
end
