-- Record that a process lives and which manifest it declares.

local function save_member(holder, text)
    redis.call('HSET', p .. 'members', holder, string.format('[%.0f,', now) .. text)
end

local function save_manifest(manifest)
    if redis.call('HEXISTS', p .. 'configs', manifest.key) == 1 then return end
    local number = redis.call('INCR', p .. 'born')
    local record = string.format('[%.0f,', number) .. manifest.text
    redis.call('HSET', p .. 'configs', manifest.key, record)
end

-- Redis searches a small hash from end to end, unless it holds a value that is longer than
-- hash-max-listpack-value (64 bytes by default): then the hash is a hash table.
local FILLER = 'counters and marks by row; so long a value makes Redis use a hash table'
for _, key in ipairs({ UNFINISHED, PENDING, RESERVED }) do redis.call('HSETNX', key, '', FILLER) end

redis.call('SETNX', p .. 'layout', request.layout)
save_member(request.holder, request.member)
if request.manifest then save_manifest(request.manifest) end
return cmsgpack.pack(true)
