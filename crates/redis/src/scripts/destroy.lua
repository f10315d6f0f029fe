-- KEYS: stream, news, state, deadlines.  ARGV: group, generation.
if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('HGET', KEYS[3], 'generation') ~= ARGV[2] then
  return redis.error_reply('GONE this queue was destroyed')
end
redis.call('DEL', KEYS[1], KEYS[3], KEYS[4])
redis.call('XADD', KEYS[2], 'MAXLEN', 1, '*', 'gone', 1)
redis.call('PEXPIRE', KEYS[2], 60000)
return 'destroyed'
