-- Return the leases of claimed runs: id of the run, end of the lease, and the clock.

local reply, leases = {}, redis.call('ZRANGE', LEASES, 0, -1, 'WITHSCORES')
for i = 1, #leases, 2 do reply[#reply + 1] = { leases[i], tonumber(leases[i + 1]), now } end
return cmsgpack.pack(reply)
