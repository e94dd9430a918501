-- Return the clock and the members.

return cmsgpack.pack({ now, redis.call('HVALS', p .. 'members') })
