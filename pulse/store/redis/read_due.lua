-- Find what is due, and reserve the rows for one look of one process.
--
-- A reservation keeps others from planning the same rows for nothing. It ends by itself; what is
-- written is decided by the versions of the rows.

local answer = { now = now, rows = {}, pending = {}, wake = false, more = false }
local reserved = {}
local mark = string.format('%.0f %s %s', now + work.hold, work.look, work.holder)

local function earlier(name, at)
    if not answer[name] or at < answer[name] then answer[name] = at end
end

local function owner_of(hold)
    if not hold then return 'nobody' end
    local till, look, holder = string.match(hold, '^(%d+) (%d+) (.*)$')
    till = tonumber(till)
    if till <= now or till > now + work.hold then return 'nobody' end
    if holder ~= work.holder then return 'another' end
    return look == work.look and 'this look' or 'nobody'
end

-- Return the tasks of one page and when they are due, but for rows that are reserved.
local function free_ones(page, place, task_of, heeds)
    local found, spots = {}, {}
    for i = 1, #page, 2 do
        local task = task_of(page[i])
        local spot = place .. '/' .. task
        spots[#spots + 1] = spot
        found[#found + 1] = { member = page[i], at = tonumber(page[i + 1]), task = task, spot = spot }
    end
    if not heeds then return found end
    local free, holds = {}, fetch(RESERVED, spots)
    for _, one in ipairs(found) do
        local owner = one.at > now and 'nobody' or owner_of(holds[one.spot])
        if owner == 'another' then earlier('wake', one.at) end
        if owner == 'nobody' then free[#free + 1] = one end
    end
    return free
end

-- Fill in what stands, and leave out the rows whose definition this process does not hold.
local function own_ones(found)
    local tasks, spots, own = {}, {}, {}
    for i, one in ipairs(found) do tasks[i], spots[i] = one.task, one.spot end
    local digests = fetch(p .. 'config:' .. work.config, tasks)
    local rows, open, unheld = fetch(ROWS, spots), fetch(OPEN, spots), fetch(UNHELD, spots)
    for _, one in ipairs(found) do
        one.row = rows[one.spot]
        if one.row then
            local digest, at_once, parks, source =
                string.match(one.row, '^%[%d+,"([^"]*)",(%d+),(%l+),"(%l+)",')
            one.at_once, one.parks = tonumber(at_once), parks == 'true'
            one.open = tonumber(open[one.spot] or 0)
            one.held = one.open - tonumber(unheld[one.spot] or 0)
            -- What was added at run time is for everybody.
            if source == 'runtime' or digests[one.task] == digest then own[#own + 1] = one end
        end
    end
    return own
end

-- Call `visit` with what each member of a sorted set leads to, in the order of their scores, until
-- it says that it is enough.
local function each_own(key, place, task_of, heeds, visit)
    local from, size = 0, math.min(work.limit + 1, 200)
    while true do
        local page = redis.call('ZRANGE', key, from, from + size - 1, 'WITHSCORES')
        for _, found in ipairs(own_ones(free_ones(page, place, task_of, heeds))) do
            if visit(found) then return end
        end
        if #page < 2 * size then return end
        from, size = from + size, 200
    end
end

local function unheld_task(member) return string.sub(member, 49) end

local function find_unheld(place)
    each_own(p .. 'unheld:' .. place, place, unheld_task, false, function(found)
        if found.at > now or #answer.pending >= work.most then
            earlier('wake', found.at)
            return true
        end
        local run = redis.call('HGET', RUNS, string.sub(found.member, 17, 48))
        -- One that was never claimed can only wait while as many are held as may be.
        if run and (found.held < found.at_once or not begins_with(run, '[null,"",0,')) then
            answer.pending[#answer.pending + 1] = { run, found.row, found.held }
        end
    end)
end

local function due_task(member) return string.sub(member, 11) end

local function find_rows(place)
    local taken = 0
    each_own(p .. 'due:' .. place, place, due_task, true, function(found)
        if found.at > now then
            earlier('wake', found.at)
            return true
        end
        if found.parks and found.held >= found.at_once then return false end
        if taken >= work.limit then
            earlier('more', found.at)
            return true
        end
        taken = taken + 1
        answer.rows[#answer.rows + 1] = { found.row, found.open, found.held }
        reserved[#reserved + 1] = found.spot
        reserved[#reserved + 1] = mark
    end)
end

for _, place in ipairs(work.partitions) do
    if work.most > 0 then find_unheld(place) end
    find_rows(place)
end
if not work.peek then with_all('HSET', RESERVED, reserved) end
return cmsgpack.pack(answer)
