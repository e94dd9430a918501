-- Delete what is older than it is kept: finished runs, archived rows, manifests and other records.
-- Each call deletes a bounded number, so that no other client waits long.
--
-- The request: before, failures_before, records_before (the limits of runs, of runs that are kept
-- longer, and of other records), position (the history number up to which only runs that are kept
-- longer are left), batch (how many runs to examine), keep_manifests, records (whether records that
-- are deleted each hour are deleted now), paused (as in apply.lua).
-- The reply: the new position, and whether more runs may be left.

local function prune_rows()
    local row_keys = redis.call(
        'ZRANGEBYSCORE', p .. 'archived', '-inf', request.before, 'LIMIT', 0, 500
    )
    for _, row_key in ipairs(row_keys) do
        for _, key in ipairs({ ROWS, UNFINISHED, PENDING }) do redis.call('HDEL', key, row_key) end
        redis.call('ZREM', p .. 'archived', row_key)
    end
end

-- Delete manifests that no process declares any more, except the newest ones.
local function prune_manifests()
    local held, numbered = {}, {}
    for _, member in ipairs(redis.call('HVALS', p .. 'members')) do
        held[cjson.decode(member)[2]] = true -- [2]: manifest key
    end
    local manifests = redis.call('HGETALL', p .. 'configs')
    for i = 1, #manifests, 2 do
        local number = tonumber(string.match(manifests[i + 1], '^%[(%d+)'))
        -- The client repairs the keys after this error.
        if not number then error('Expected a manifest ' .. manifests[i] .. ' in configs') end
        numbered[#numbered + 1] = { number = number, key = manifests[i] }
    end
    table.sort(numbered, function(one, other) return one.number < other.number end)
    for i = 1, #numbered - request.keep_manifests do
        if not held[numbered[i].key] then
            redis.call('HDEL', p .. 'configs', numbered[i].key)
            redis.call('DEL', p .. 'config:' .. numbered[i].key)
        end
    end
end

-- Delete the oldest entries of the audit trail: a record begins with its time.
local function prune_audit()
    local old = 0
    for _, record in ipairs(redis.call('ZRANGE', p .. 'audit', 0, 499)) do
        local at = tonumber(string.match(record, '^%[(%d+)'))
        if at and at >= request.records_before then break end
        old = old + 1
    end
    if old > 0 then redis.call('ZREMRANGEBYRANK', p .. 'audit', 0, old - 1) end
end

-- Delete the requests to stop runs that have ended.
local function prune_stops()
    for _, id in ipairs(redis.call('HKEYS', p .. 'stops')) do
        if not redis.call('ZSCORE', LEASES, id) then redis.call('HDEL', p .. 'stops', id) end
    end
end

-- Delete what processes have said that an earlier release has removed.
local function prune_reports()
    for _, holder in ipairs(redis.call('HKEYS', p .. 'reports')) do
        if redis.call('HEXISTS', p .. 'members', holder) == 0 then
            redis.call('HDEL', p .. 'reports', holder)
        end
    end
end

-- Delete schedule versions that others have replaced, or that ended, before they are kept.
-- Elements of a record: [3] at, [4] schedule.
local function prune_versions()
    local limit = request.records_before
    for _, row_key in ipairs(redis.call('HKEYS', p .. 'last_versions')) do
        local task = string.match(row_key, '^[^/]*/(.*)$')
        local key = p .. 'versions:' .. task
        for _, record in ipairs(redis.call('LRANGE', key, 0, 99)) do
            local version = cjson.decode(record)
            local last = redis.call('HGET', p .. 'last_versions', version[2] .. '/' .. version[1])
            local is_last = last == record
            if version[3] >= limit or (is_last and version[4] ~= '') then break end
            redis.call('LREM', key, 1, record)
            if is_last then
                redis.call('HDEL', p .. 'last_versions', version[2] .. '/' .. version[1])
            end
        end
    end
end

-- Delete settings of definitions that no row has, and that no manifest declares: a process with an
-- older manifest may come back, and stores no settings then. Elements of a row: [2] digest.
local function prune_definitions()
    local used = {}
    for _, key in ipairs(redis.call('HKEYS', p .. 'configs')) do
        for _, digest in ipairs(redis.call('HVALS', p .. 'config:' .. key)) do used[digest] = true end
    end
    for _, record in ipairs(redis.call('HVALS', ROWS)) do
        used[string.match(record, '^%[%d+,"([^"]*)"') or ''] = true
    end
    for _, digest in ipairs(redis.call('HKEYS', p .. 'definitions')) do
        if not used[digest] and redis.call('HEXISTS', p .. 'configs', digest) == 0 then
            redis.call('HDEL', p .. 'definitions', digest)
        end
    end
end

-- Delete other records; that of a result that was refused ends with its time, element [9].
local function prune_records()
    local limit = string.format('(%.0f', request.records_before)
    redis.call('ZREMRANGEBYSCORE', p .. 'served', '-inf', limit)
    local refused = redis.call('HGETALL', p .. 'refused')
    for i = 1, #refused, 2 do
        if cjson.decode(refused[i + 1])[9] < request.records_before then
            redis.call('HDEL', p .. 'refused', refused[i])
        end
    end
    for _, task in ipairs(redis.call('HKEYS', p .. 'trimmed')) do
        if redis.call('EXISTS', p .. 'history:' .. task) == 0 then
            redis.call('HDEL', p .. 'trimmed', task)
        end
    end
    prune_versions()
    prune_definitions()
end

local before = string.format('(%.0f', request.before)
local page = redis.call(
    'ZRANGEBYSCORE', HISTORY, '(' .. request.position, before, 'WITHSCORES', 'LIMIT', 0, request.batch
)
local passed = delete_page(page) or request.position
local oldest = string.format('(%.0f', request.failures_before)
delete_finished(redis.call('ZRANGEBYSCORE', HISTORY, '-inf', oldest, 'LIMIT', 0, request.batch), false)
prune_rows()
prune_manifests()
prune_audit()
prune_stops()
prune_reports()
if request.records then prune_records() end
redis.call('HSET', p .. 'upkeep', 'position', passed)
return cmsgpack.pack({ passed, #page == 2 * request.batch and passed == page[#page] })
