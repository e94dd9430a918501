-- Remove the record of a pause that is over, unless it was changed since it was read.
--
-- The request: task; record (as it was read).
-- The reply: whether it was removed.

local key = p .. 'pauses'
local is_same = redis.call('HGET', key, request.task) == request.record
if is_same then
    redis.call('HDEL', key, request.task)
    redis.call('SREM', p .. 'paused', request.task)
end
return cmsgpack.pack(is_same)
