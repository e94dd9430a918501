-- Find out which keys of the application are missing.
--
-- The request: holder (the calling process), expected (names of keys), manifest (the key of the
-- caller's manifest), digests (how many fields its digests have), partitions.
-- The reply: the names of the expected keys that are missing; the partitions that have an index of
-- due rows; whether the caller is listed among the members.

local missing, indexed = {}, {}

local function exists(name) return redis.call('EXISTS', p .. name) == 1 end

for _, name in ipairs(request.expected) do
    if not exists(name) then missing[#missing + 1] = name end
end
local config = 'config:' .. request.manifest
if request.digests > 0 and redis.call('HLEN', p .. config) ~= request.digests then
    missing[#missing + 1] = config
end
-- Each run is in the history, so both exist or none.
if exists('runs') ~= exists('history') then
    missing[#missing + 1] = exists('runs') and 'history' or 'runs'
end
for _, partition in ipairs(request.partitions) do
    if exists('due:' .. partition) then indexed[#indexed + 1] = partition end
end
local is_listed = redis.call('HEXISTS', p .. 'members', request.holder) == 1
return cmsgpack.pack({ missing, indexed, is_listed })
