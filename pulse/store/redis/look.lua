-- Find what is due, and reserve the rows for one look of one process.
--
-- A reservation keeps others from planning the same rows for nothing. It ends by itself; what is
-- written is decided by the versions of the rows.

local answer = { now = now, rows = {}, unheld = {}, wake = false, more = false }

local function earlier(name, at)
    if not answer[name] or at < answer[name] then answer[name] = at end
end

local function head_of(record)
    local digest, at_once, parks = string.match(record, '^%[%d+,"([^"]*)",(%d+),(%l+),')
    return { digest = digest, at_once = tonumber(at_once), parks = parks == 'true' }
end

-- A row as it stands where this process holds the definition that it says.
local function own_row(place, task)
    local record = redis.call('HGET', ROWS, place .. '/' .. task)
    if not record then return nil end
    local head = head_of(record)
    if redis.call('HGET', p .. 'config:' .. work.config, task) ~= head.digest then return nil end
    return record, head
end

-- Call `visit` with the members of a sorted set and their scores until it says that it is enough.
local function each(key, visit)
    local from, size = 0, 50
    while true do
        local page = redis.call('ZRANGE', key, from, from + size - 1, 'WITHSCORES')
        for i = 1, #page, 2 do
            if visit(page[i], tonumber(page[i + 1])) then return end
        end
        if #page < 2 * size then return end
        from, size = from + size, 200
    end
end

local function find_unheld(place)
    each(p .. 'unheld:' .. place, function(member, at)
        local id, task = string.sub(member, 17, 48), string.sub(member, 49)
        local row, head = own_row(place, task)
        if not row then return false end
        if at > now or #answer.unheld >= work.most then
            earlier('wake', at)
            return true
        end
        local run = redis.call('HGET', RUNS, id)
        local held = count(HELD, place .. '/' .. task)
        -- One that was never claimed can only wait while as many are held as may be.
        if run and (held < head.at_once or not begins_with(run, '[null,"",0,')) then
            answer.unheld[#answer.unheld + 1] = { run, row, held }
        end
    end)
end

local function reserved_by(spot)
    local found = redis.call('HGET', RESERVED, spot)
    if not found then return 'nobody' end
    local till, look, holder = string.match(found, '^(%d+) (%d+) (.*)$')
    till = tonumber(till)
    if till <= now or till > now + work.hold then return 'nobody' end
    if holder ~= work.holder then return 'another' end
    return look == work.look and 'this look' or 'nobody'
end

local function reserve(spot)
    if work.peek then return end
    local text = string.format('%.0f %s %s', now + work.hold, work.look, work.holder)
    redis.call('HSET', RESERVED, spot, text)
end

local function find_rows(place)
    local found = 0
    each(p .. 'due:' .. place, function(member, at)
        local task = string.sub(member, 11)
        local row, head = own_row(place, task)
        if not row then return false end
        if at > now then
            earlier('wake', at)
            return true
        end
        local spot = place .. '/' .. task
        local owner = reserved_by(spot)
        local parked = head.parks and count(HELD, spot) >= head.at_once
        if owner == 'another' then
            earlier('wake', at)
        elseif owner == 'this look' or parked then
            return false
        elseif found >= work.limit then
            earlier('more', at)
            return true
        else
            found = found + 1
            answer.rows[#answer.rows + 1] = { row, count(OPEN, spot) }
            reserve(spot)
        end
    end)
end

for _, place in ipairs(work.places) do
    if work.most > 0 then find_unheld(place) end
    find_rows(place)
end
return cmsgpack.pack(answer)
