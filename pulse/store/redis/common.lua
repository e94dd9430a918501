-- What all scripts share; it stands before each of them.
--
-- KEYS[1] is what the names of this application's keys begin with. It holds their hash tag, so that
-- all of them live on one node, and the names made from it here do too. ARGV[1] is MessagePack.
--
-- Numbers are instants in microseconds, which a double holds exactly; `..` would round them.

local p = KEYS[1]
local work = cmsgpack.unpack(ARGV[1])
local ROWS, RUNS = p .. 'rows', p .. 'runs'
local OPEN, UNHELD = p .. 'open', p .. 'unheld'
local LEASES, HISTORY, RESERVED = p .. 'leases', p .. 'history', p .. 'reserved'

local function server_time()
    if work.clock then return work.clock end
    local time = redis.call('TIME')
    return time[1] * 1000000 + time[2]
end

local now = server_time()

local function begins_with(text, start)
    return string.sub(text, 1, #start) == start
end

-- A run's record begins with its outcome, which is null while it is open.
local function is_open(record)
    return begins_with(record, '[null,')
end

-- Call a command with a list of words, in bounded parts; a call costs more than what it does.
local function with_all(command, key, words)
    for first = 1, #words, 2000 do
        redis.call(command, key, unpack(words, first, math.min(first + 1999, #words)))
    end
end

-- Read fields of a hash into a table, in which those that are not there are false.
local function fetch(key, fields, into)
    local found = into or {}
    for first = 1, #fields, 2000 do
        local last = math.min(first + 1999, #fields)
        local values = redis.call('HMGET', key, unpack(fields, first, last))
        for i, value in ipairs(values) do found[fields[first + i - 1]] = value end
    end
    return found
end

local function count(key, spot)
    return tonumber(redis.call('HGET', key, spot) or 0)
end

local function count_held(spot)
    return count(OPEN, spot) - count(UNHELD, spot)
end
