-- Read rows by key, or the rows of one task in all partitions, each with the number of unfinished
-- runs.

local row_keys = request.row_keys or {}
if request.task then
    for _, partition in ipairs(redis.call('SMEMBERS', p .. 'places')) do
        row_keys[#row_keys + 1] = partition .. '/' .. request.task
    end
end
local reply = { now = now, rows = {}, paused = redis.call('SMEMBERS', p .. 'paused') }
-- The empty name stands for all tasks.
if redis.call('EXISTS', p .. 'fleet_pause') == 1 then reply.paused[#reply.paused + 1] = '' end
for _, row_key in ipairs(row_keys) do
    local record = redis.call('HGET', ROWS, row_key)
    if record then reply.rows[#reply.rows + 1] = { record, count(UNFINISHED, row_key) } end
end
return cmsgpack.pack(reply)
