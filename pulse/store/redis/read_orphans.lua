-- Find what is left behind: runs that processes held, and those that wait in certain places, of all
-- tasks or of some.

local gone, answer = {}, { now = now, claimed = {}, pending = {} }
for _, holder in ipairs(work.holders) do gone[holder] = true end

local function collect_held()
    local leases = redis.call('ZRANGE', LEASES, 0, -1, 'WITHSCORES')
    for i = 1, #leases, 2 do
        local record = redis.call('HGET', RUNS, leases[i])
        if record and gone[cjson.decode(record)[2]] then
            answer.claimed[#answer.claimed + 1] = { record, tonumber(leases[i + 1]) }
        end
    end
end

local function collect_place(place, wanted)
    for _, member in ipairs(redis.call('ZRANGE', p .. 'unheld:' .. place, 0, -1)) do
        if not wanted or wanted[string.sub(member, 49)] then
            local record = redis.call('HGET', RUNS, string.sub(member, 17, 48))
            if record then answer.pending[#answer.pending + 1] = record end
        end
    end
end

-- Most tasks have no run that waits: they are not looked for.
local function collect_tasks(place, tasks)
    local wanted = {}
    for _, task in ipairs(tasks) do
        if count(UNHELD, place .. '/' .. task) > 0 then wanted[task] = true end
    end
    if next(wanted) then collect_place(place, wanted) end
end

if #work.holders > 0 then collect_held() end
for _, place in ipairs(work.partitions) do collect_place(place) end
for place, tasks in pairs(work.tasks) do collect_tasks(place, tasks) end
return cmsgpack.pack(answer)
