-- Run commands in one step.
--
-- The request: commands, each with its arguments, of which the first is the name of a key without
-- the prefix.
-- The reply: the clock, and the replies.

local replies = {}
for i, command in ipairs(request.commands) do
    command[2] = p .. command[2]
    local reply = redis.call(unpack(command))
    replies[i] = type(reply) == 'table' and reply.ok or reply
end
return cmsgpack.pack({ now, replies })
