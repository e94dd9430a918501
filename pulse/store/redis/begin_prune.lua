-- Begin to prune, unless a process has in the last `every`.
--
-- The request: every, day, hour (how often the cursor begins again, and records are deleted).
-- The reply: now, the position of the cursor, and whether records are to be deleted; or false.

local UPKEEP = p .. 'upkeep'

local function is_over(field, span)
    local at = tonumber(redis.call('HGET', UPKEEP, field) or 0)
    return not (at <= now and now < at + span)
end

local function note(field) redis.call('HSET', UPKEEP, field, string.format('%.0f', now)) end

if not is_over('prune', request.every) then return cmsgpack.pack(false) end
note('prune')
if is_over('pass', request.day) then
    note('pass')
    redis.call('HSET', UPKEEP, 'position', '0')
end
local with_records = is_over('records', request.hour)
if with_records then note('records') end
local position = tonumber(redis.call('HGET', UPKEEP, 'position') or 0)
return cmsgpack.pack({ now, position, with_records })
