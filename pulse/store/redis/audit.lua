-- Append an entry to the audit trail, with the next number.
--
-- The request: head and tail, the record before and after its number.
-- The reply: true.

local number = redis.call('INCR', p .. 'audits')
local record = string.format('%s%.0f%s', request.head, number, request.tail)
redis.call('ZADD', p .. 'audit', number, record)
return cmsgpack.pack(true)
