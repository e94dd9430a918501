-- Forget what is older than is kept: runs that have ended, rows that were put away, unused configs.

local function forget_runs()
    local oldest = redis.call('ZRANGE', HISTORY, 0, 499, 'WITHSCORES')
    for i = 1, #oldest, 2 do
        if tonumber(oldest[i + 1]) >= work.before then return end
        local record = redis.call('HGET', RUNS, oldest[i])
        if record and not is_open(record) then
            redis.call('HDEL', RUNS, oldest[i])
            redis.call('ZREM', HISTORY, oldest[i])
            redis.call('ZREM', p .. 'history:' .. cjson.decode(record)[5], oldest[i])
        end
    end
end

local function forget_rows()
    local spots = redis.call('ZRANGEBYSCORE', p .. 'archived', '-inf', work.before, 'LIMIT', 0, 500)
    for _, spot in ipairs(spots) do
        for _, key in ipairs({ ROWS, OPEN, UNHELD }) do redis.call('HDEL', key, spot) end
        redis.call('ZREM', p .. 'archived', spot)
    end
end

local function forget_configs()
    for _, key in ipairs(work.configs) do
        redis.call('HDEL', p .. 'configs', key)
        redis.call('DEL', p .. 'config:' .. key)
    end
end

forget_runs()
forget_rows()
forget_configs()
return cmsgpack.pack(true)
