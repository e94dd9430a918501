-- Record that a process lives and what it holds; tell who else is there, and all that they hold.

local function seen_now(holder, text)
    redis.call('HSET', p .. 'members', holder, string.format('[%.0f,', now) .. text)
end

local function know(config)
    if redis.call('HEXISTS', p .. 'configs', config.key) == 1 then return end
    local born = redis.call('INCR', p .. 'born')
    redis.call('HSET', p .. 'configs', config.key, string.format('[%.0f,', born) .. config.text)
end

-- A small hash is searched from end to end unless it holds a value as long as this.
local ABOUT = 'numbers and marks by place and task; this value makes the hash one that is not searched'
for _, key in ipairs({ OPEN, UNHELD, RESERVED }) do redis.call('HSETNX', key, '', ABOUT) end

redis.call('SETNX', p .. 'layout', work.layout)
seen_now(work.holder, work.member)
if work.config then know(work.config) end
return cmsgpack.pack({
    now = now,
    members = redis.call('HVALS', p .. 'members'),
    configs = redis.call('HGETALL', p .. 'configs'),
})
