-- Delete what is older than it is kept: finished runs, archived rows, audit entries, manifests.
-- Each call deletes a bounded number, so that no other client waits long.

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
        if at and at >= request.audit_before then break end
        old = old + 1
    end
    if old > 0 then redis.call('ZREMRANGEBYRANK', p .. 'audit', 0, old - 1) end
end

local before = string.format('(%.0f', request.before)
delete_finished(redis.call('ZRANGEBYSCORE', HISTORY, '-inf', before, 'LIMIT', 0, 500))
prune_rows()
prune_manifests()
prune_audit()
return cmsgpack.pack(true)
