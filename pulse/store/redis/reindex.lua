-- Add runs to those indexes of the history that lack them.
--
-- The request: runs, each with id, task, and the number that is used where both indexes lack it.
-- The reply: true.

for _, run in ipairs(request.runs) do
    local key = p .. 'history:' .. run.task
    local number = redis.call('ZSCORE', HISTORY, run.id) or redis.call('ZSCORE', key, run.id)
        or string.format('%.0f', run.number)
    redis.call('ZADD', HISTORY, number, run.id)
    redis.call('ZADD', key, number, run.id)
end
return cmsgpack.pack(true)
