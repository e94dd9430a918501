-- Return the names of tasks to remove: with remove_when_done, and nothing left to run.
--
-- The request: word, which the settings of such a task contain.
-- The reply: names.
--
-- Elements of a row: [6] task, [13] next_fire, [20] archived_at, [21] task_json.

local names = {}
local records = redis.call('HGETALL', ROWS)
for i = 1, #records, 2 do
    -- Most rows are skipped by their text, which costs less than to decode them.
    if string.find(records[i + 1], 'remove_when_done', 1, true) then
        local row = cjson.decode(records[i + 1])
        local is_over = row[13] == cjson.null and row[20] == cjson.null
        -- Configured tasks have no text of their own in the row.
        local is_wanted = type(row[21]) == 'string' and string.find(row[21], request.word, 1, true)
        if is_over and is_wanted and count(UNFINISHED, records[i]) == 0 then
            names[#names + 1] = row[6]
        end
    end
end
return cmsgpack.pack(names)
