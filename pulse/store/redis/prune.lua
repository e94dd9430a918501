-- Delete what is older than the history is kept: finished runs, archived rows, unused manifests.
-- Each call deletes a bounded number, so that no other client waits long.

local function prune_runs()
    local oldest = redis.call('ZRANGE', HISTORY, 0, 499, 'WITHSCORES')
    for i = 1, #oldest, 2 do
        if tonumber(oldest[i + 1]) >= request.before then return end
        local record = redis.call('HGET', RUNS, oldest[i])
        if record and not is_unfinished(record) then
            redis.call('HDEL', RUNS, oldest[i])
            redis.call('ZREM', HISTORY, oldest[i])
            redis.call('ZREM', p .. 'history:' .. cjson.decode(record)[5], oldest[i]) -- [5]: task
        elseif not record then
            redis.call('ZREM', HISTORY, oldest[i])
        end
    end
end

local function prune_rows()
    local row_keys = redis.call(
        'ZRANGEBYSCORE', p .. 'archived', '-inf', request.before, 'LIMIT', 0, 500
    )
    for _, row_key in ipairs(row_keys) do
        for _, key in ipairs({ ROWS, UNFINISHED, PENDING }) do redis.call('HDEL', key, row_key) end
        redis.call('ZREM', p .. 'archived', row_key)
    end
end

local function delete_manifests()
    for _, key in ipairs(request.manifests) do
        redis.call('HDEL', p .. 'configs', key)
        redis.call('DEL', p .. 'config:' .. key)
    end
end

prune_runs()
prune_rows()
delete_manifests()
return cmsgpack.pack(true)
