-- Read due rows and due pending runs, and reserve the rows for one poll of one process.
--
-- A reservation only saves other processes needless planning. It expires by itself; which process
-- wins a tick is decided by the versions of the rows, in apply.lua.
--
-- The request: holder (the calling process), poll (identifies the poll, so that its own
-- reservations are known), manifest (the key of the caller's manifest), partitions, limit (how many
-- rows to reserve), pending_limit (how many pending runs to return), peek (whether nothing is
-- written), reserve_for.
-- The reply: now; rows, each with the numbers of unfinished and of claimed runs; pending runs, each
-- with its row and the number of claimed runs; next_wakeup, when there is more to do; more, when
-- the first row beyond the limit is due.
-- Members of the index of pending runs that have no pending run are removed, unless peek is set.

local reply = { now = now, rows = {}, pending = {} }
local reserved = {}
local mark = string.format('%.0f %s %s', now + request.reserve_for, request.poll, request.holder)

local function set_earliest(name, at)
    if not reply[name] or at < reply[name] then reply[name] = at end
end

-- Who reserved a row: 'nobody', 'another' process, or 'this poll'. A reservation of an earlier poll
-- of this process counts as nobody's, since that poll was abandoned. An end too far in the future
-- was written before the clock was set back.
local function owner_of(reservation)
    if not reservation then return 'nobody' end
    local till, poll, holder = string.match(reservation, '^(%d+) (%d+) (.*)$')
    till = tonumber(till)
    if till <= now or till > now + request.reserve_for then return 'nobody' end
    if holder ~= request.holder then return 'another' end
    return poll == request.poll and 'this poll' or 'nobody'
end

-- Return the entries of one page of an index; without due rows that are reserved, if the index is
-- that of rows.
local function unreserved(page, partition, task_of, of_rows)
    local entries, row_keys = {}, {}
    for i = 1, #page, 2 do
        local member, at, task = page[i], tonumber(page[i + 1]), task_of(page[i])
        local key = partition .. '/' .. task
        row_keys[#row_keys + 1] = key
        entries[#entries + 1] = { member = member, at = at, task = task, key = key }
    end
    if not of_rows then return entries end
    local free, reservations = {}, fetch(RESERVED, row_keys)
    for _, entry in ipairs(entries) do
        local owner = entry.at > now and 'nobody' or owner_of(reservations[entry.key])
        if owner == 'another' then set_earliest('next_wakeup', entry.at) end
        if owner == 'nobody' then free[#free + 1] = entry end
    end
    return free
end

-- A row that does not exist although it is in the index of due rows, or is no record, was lost or
-- overwritten, and so was a digest that is none: the client repairs the keys after this error. If
-- all rows are lost, the next heartbeat reports it. A pending run without a row is left alone.
local function refuse_damage(entry, digest, of_rows)
    local is_lost = of_rows and not entry.row and redis.call('EXISTS', ROWS) == 1
    if is_lost or (entry.row and not begins_with(entry.row, '[')) then
        error('Expected a row ' .. entry.key .. ' in ' .. ROWS)
    end
    if digest and not string.match(digest, '^%x+$') then
        error('Expected a digest of ' .. entry.task .. ' in ' .. p .. 'config:' .. request.manifest)
    end
end

-- Add the row and the counts to each entry; leave out rows with another definition than this
-- process's. Every process may run a run-time task.
local function runnable(entries, of_rows)
    local tasks, row_keys, own = {}, {}, {}
    for i, entry in ipairs(entries) do tasks[i], row_keys[i] = entry.task, entry.key end
    local digests = fetch(p .. 'config:' .. request.manifest, tasks)
    local rows = fetch(ROWS, row_keys)
    local unfinished, pending = fetch(UNFINISHED, row_keys), fetch(PENDING, row_keys)
    for _, entry in ipairs(entries) do
        entry.row = rows[entry.key]
        -- Matching the first five fields of the record is much cheaper than decoding the JSON.
        -- It is safe, since none of them can hold a quotation mark or a comma: version, digest
        -- (hex digits), max_concurrent, parks (true or false), source (lower-case letters).
        local digest, max_concurrent, parks, source =
            string.match(entry.row or '', '^%[%d+,"([^"]*)",(%d+),(%l+),"(%l+)",')
        if source == 'runtime' or (digest and digest == digests[entry.task]) then
            entry.max_concurrent, entry.parks = tonumber(max_concurrent), parks == 'true'
            entry.unfinished = tonumber(unfinished[entry.key] or 0)
            entry.claimed = entry.unfinished - tonumber(pending[entry.key] or 0)
            own[#own + 1] = entry
        else
            refuse_damage(entry, digests[entry.task], of_rows)
        end
    end
    return own
end

-- Call `visit` with each runnable entry of an index, in the order of the scores, until it returns
-- true.
local function each_runnable(key, partition, task_of, of_rows, visit)
    local from, size = 0, math.min(request.limit + 1, 200)
    while true do
        local page = redis.call('ZRANGE', key, from, from + size - 1, 'WITHSCORES')
        for _, entry in ipairs(runnable(unreserved(page, partition, task_of, of_rows), of_rows)) do
            if visit(entry) then return end
        end
        if #page < 2 * size then return end
        from, size = from + size, 200
    end
end

-- Whether a member of the index of pending runs has no pending run: its record was lost, or a repair
-- added the run under another history number, and only that member was removed when the run was
-- claimed. A value that is no record is returned, so that the client repairs the keys.
local function is_stale(run)
    return not run or (begins_with(run, '[') and state_of(run) ~= 'pending')
end

local function find_pending(partition)
    local key, stale = p .. 'unheld:' .. partition, {}
    each_runnable(key, partition, task_of_pending, false, function(entry)
        if entry.at > now or #reply.pending >= request.pending_limit then
            set_earliest('next_wakeup', entry.at)
            return true
        end
        local run = redis.call('HGET', RUNS, run_id_of_pending(entry.member))
        if is_stale(run) then
            stale[#stale + 1] = entry.member
            return false
        end
        -- A run without outcome, holder and attempts was never claimed: while the task has
        -- max_concurrent claimed runs it can only wait. A retry is returned anyway: it may expire.
        local may_start = entry.claimed < entry.max_concurrent
        if may_start or not begins_with(run, '[null,"",0,') then
            reply.pending[#reply.pending + 1] = { run, entry.row, entry.claimed }
        end
    end)
    -- At the end: each page begins behind the members of the pages before.
    if not request.peek then call_in_parts('ZREM', key, stale) end
end

-- A member of the index of due rows is 10 digits of order, then the task.
local function task_of_due(member) return string.sub(member, 11) end

-- While the task has max_concurrent claimed runs, a due fire time waits at the cursor. Fire times
-- that were due during a pause, or that are not later than the last decided one, do not wait.
local function is_parked(entry)
    if not entry.parks or entry.claimed < entry.max_concurrent then return false end
    local row = cjson.decode(entry.row)
    local next_fire, last_decided, resumed_at = row[13], row[15], row[18]
    return next_fire > last_decided and (resumed_at == nil or resumed_at == cjson.null)
end

local function find_rows(partition)
    local taken = 0
    each_runnable(p .. 'due:' .. partition, partition, task_of_due, true, function(entry)
        if entry.at > now then
            set_earliest('next_wakeup', entry.at)
            return true
        end
        if is_parked(entry) then return false end
        if taken >= request.limit then
            set_earliest('more', entry.at)
            return true
        end
        taken = taken + 1
        reply.rows[#reply.rows + 1] = { entry.row, entry.unfinished, entry.claimed }
        reserved[#reserved + 1] = entry.key
        reserved[#reserved + 1] = mark
    end)
end

local all_paused = redis.call('EXISTS', p .. 'fleet_pause') == 1
for _, partition in ipairs(request.partitions) do
    if request.pending_limit > 0 then find_pending(partition) end
    if not all_paused then find_rows(partition) end
end
if not request.peek then call_in_parts('HSET', RESERVED, reserved) end
return cmsgpack.pack(reply)
