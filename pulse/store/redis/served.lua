-- Record that partitions are served now, and were since a record up to `gap` ago.
--
-- The request: partitions, at (the instant), gap.
-- A member of `served` is 16 digits of its beginning, a blank, and the partition; its score is its
-- end. The hash `serving` has the last member of each partition.

local function number(instant) return string.format('%016.0f', instant) end

for _, partition in ipairs(request.partitions) do
    local member = redis.call('HGET', p .. 'serving', partition)
    local ended = member and tonumber(redis.call('ZSCORE', p .. 'served', member) or nil)
    local follows = ended and ended >= request.at - request.gap
    if not follows or tonumber(string.sub(member, 1, 16)) > request.at then
        member, ended = number(request.at) .. ' ' .. partition, request.at
        redis.call('HSET', p .. 'serving', partition, member)
    end
    redis.call('ZADD', p .. 'served', number(math.max(ended, request.at)), member)
end
return cmsgpack.pack(true)
