-- Find what processes that are gone have left behind: runs they held, and all in certain places.

local gone, answer = {}, { now = now, held = {}, unheld = {}, rows = {} }
for _, holder in ipairs(work.holders) do gone[holder] = true end

local function collect_held()
    local leases = redis.call('ZRANGE', LEASES, 0, -1, 'WITHSCORES')
    for i = 1, #leases, 2 do
        local record = redis.call('HGET', RUNS, leases[i])
        if record and gone[cjson.decode(record)[2]] then
            answer.held[#answer.held + 1] = { record, tonumber(leases[i + 1]) }
        end
    end
end

local function collect_place(place)
    for _, member in ipairs(redis.call('ZRANGE', p .. 'unheld:' .. place, 0, -1)) do
        local record = redis.call('HGET', RUNS, string.sub(member, 17, 48))
        if record then answer.unheld[#answer.unheld + 1] = record end
    end
    for _, task in ipairs(redis.call('SMEMBERS', p .. 'rows:' .. place)) do
        local record = redis.call('HGET', ROWS, place .. '/' .. task)
        if record then answer.rows[#answer.rows + 1] = record end
    end
end

if #work.holders > 0 then collect_held() end
for _, place in ipairs(work.places) do collect_place(place) end
return cmsgpack.pack(answer)
