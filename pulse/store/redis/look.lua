-- Find what is due, and reserve the rows for one look of one process.
--
-- A reservation keeps others from planning the same rows for nothing. It ends by itself; what is
-- written is decided by the versions of the rows.

local answer = { now = now, rows = {}, unheld = {}, wake = false, more = false }
local reserved = {}
local mark = string.format('%.0f %s %s', now + work.hold, work.look, work.holder)

local function earlier(name, at)
    if not answer[name] or at < answer[name] then answer[name] = at end
end

-- Call `visit` with what each member of a sorted set leads to, in the order of their scores, until
-- it says that it is enough. Only rows count whose definition this process holds.
local function each_own(key, place, task_of, visit)
    local from, size = 0, math.min(work.limit + 1, 200)
    while true do
        local page = redis.call('ZRANGE', key, from, from + size - 1, 'WITHSCORES')
        local tasks, spots = {}, {}
        for i = 1, #page, 2 do
            tasks[#tasks + 1] = task_of(page[i])
            spots[#spots + 1] = place .. '/' .. tasks[#tasks]
        end
        local own = fetch(p .. 'config:' .. work.config, tasks)
        local rows, holds = fetch(ROWS, spots), fetch(RESERVED, spots)
        local open, unheld = fetch(OPEN, spots), fetch(UNHELD, spots)
        for i, task in ipairs(tasks) do
            local spot = spots[i]
            local row = rows[spot]
            local digest, at_once, parks
            if row then
                digest, at_once, parks = string.match(row, '^%[%d+,"([^"]*)",(%d+),(%l+),')
            end
            if row and own[task] == digest then
                local found = {
                    member = page[2 * i - 1], at = tonumber(page[2 * i]), spot = spot, row = row,
                    open = tonumber(open[spot] or 0), parks = parks == 'true',
                    hold = holds[spot], at_once = tonumber(at_once),
                }
                found.held = found.open - tonumber(unheld[spot] or 0)
                if visit(found) then return end
            end
        end
        if #page < 2 * size then return end
        from, size = from + size, 200
    end
end

local function unheld_task(member) return string.sub(member, 49) end

local function find_unheld(place)
    each_own(p .. 'unheld:' .. place, place, unheld_task, function(found)
        if found.at > now or #answer.unheld >= work.most then
            earlier('wake', found.at)
            return true
        end
        local run = redis.call('HGET', RUNS, string.sub(found.member, 17, 48))
        -- One that was never claimed can only wait while as many are held as may be.
        if run and (found.held < found.at_once or not begins_with(run, '[null,"",0,')) then
            answer.unheld[#answer.unheld + 1] = { run, found.row, found.held }
        end
    end)
end

local function owner_of(hold)
    if not hold then return 'nobody' end
    local till, look, holder = string.match(hold, '^(%d+) (%d+) (.*)$')
    till = tonumber(till)
    if till <= now or till > now + work.hold then return 'nobody' end
    if holder ~= work.holder then return 'another' end
    return look == work.look and 'this look' or 'nobody'
end

local function due_task(member) return string.sub(member, 11) end

local function find_rows(place)
    local taken = 0
    each_own(p .. 'due:' .. place, place, due_task, function(found)
        if found.at > now then
            earlier('wake', found.at)
            return true
        end
        local owner = owner_of(found.hold)
        if owner == 'another' then
            earlier('wake', found.at)
        elseif owner == 'this look' or (found.parks and found.held >= found.at_once) then
            return false
        elseif taken >= work.limit then
            earlier('more', found.at)
            return true
        else
            taken = taken + 1
            answer.rows[#answer.rows + 1] = { found.row, found.open, found.held }
            reserved[#reserved + 1] = found.spot
            reserved[#reserved + 1] = mark
        end
    end)
end

for _, place in ipairs(work.places) do
    if work.most > 0 then find_unheld(place) end
    find_rows(place)
end
if not work.peek then with_all('HSET', RESERVED, reserved) end
return cmsgpack.pack(answer)
