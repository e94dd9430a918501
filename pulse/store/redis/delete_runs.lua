-- Delete those of some runs that have ended, and add them to the tallies.
--
-- The request: ids; paused (as in apply.lua).
-- The reply: true.

delete_finished(request.ids, false)
return cmsgpack.pack(true)
