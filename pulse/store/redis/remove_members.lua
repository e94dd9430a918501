-- Take processes off the list, with the rows that were theirs alone.

for _, holder in ipairs(work.holders) do
    for _, task in ipairs(redis.call('SMEMBERS', p .. 'rows:' .. holder)) do
        redis.call('HDEL', ROWS, holder .. '/' .. task)
        redis.call('HDEL', RESERVED, holder .. '/' .. task)
    end
    redis.call('DEL', p .. 'rows:' .. holder, p .. 'due:' .. holder)
    redis.call('SREM', p .. 'places', holder)
    if not work.keeping[holder] then redis.call('HDEL', p .. 'members', holder) end
end
return cmsgpack.pack(true)
