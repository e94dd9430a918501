-- Read rows by spot, or those of one task in all places, with the numbers of their open runs.

local spots = work.row_keys
if work.task then
    for _, place in ipairs(redis.call('SMEMBERS', p .. 'places')) do
        spots[#spots + 1] = place .. '/' .. work.task
    end
end
local answer = { now = now, rows = {}, paused = redis.call('SMEMBERS', p .. 'paused') }
for _, spot in ipairs(spots) do
    local record = redis.call('HGET', ROWS, spot)
    if record then answer.rows[#answer.rows + 1] = { record, count(OPEN, spot) } end
end
return cmsgpack.pack(answer)
