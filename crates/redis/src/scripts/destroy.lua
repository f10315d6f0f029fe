-- KEYS: stream, news, state, deadlines.
redis.call('DEL', KEYS[1], KEYS[3], KEYS[4])
redis.call('XADD', KEYS[2], 'MAXLEN', 1, '*', 'gone', 1)
redis.call('PEXPIRE', KEYS[2], 60000)
return 'gone'
