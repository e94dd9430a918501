-- Remove members, with the rows of scope `process` that belong to them. A holder in `keeping` stays
-- listed as a member.

for _, holder in ipairs(request.holders) do
    for _, task in ipairs(redis.call('SMEMBERS', p .. 'rows:' .. holder)) do
        redis.call('HDEL', ROWS, holder .. '/' .. task)
        redis.call('HDEL', RESERVED, holder .. '/' .. task)
    end
    redis.call('DEL', p .. 'rows:' .. holder, p .. 'due:' .. holder)
    redis.call('SREM', p .. 'places', holder)
    if not request.keeping[holder] then
        redis.call('HDEL', p .. 'members', holder)
        redis.call('HDEL', p .. 'reports', holder)
    end
end
return cmsgpack.pack(true)
